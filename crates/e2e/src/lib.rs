//! Tests of the whole system through its network ports.
