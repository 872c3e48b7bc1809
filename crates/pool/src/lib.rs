//! The liquidity-pool service.
