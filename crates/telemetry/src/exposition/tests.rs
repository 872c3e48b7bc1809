//! Tests of exposition.
