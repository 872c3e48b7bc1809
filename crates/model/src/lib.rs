//! Values of the domain: mints, tokens, liquidity pools. No I/O.
