//! Fills a database with the real tokens and pools, or with synthetic ones.
