//! Values of the domain: mints, tokens, liquidity pools. No I/O.
//!
//! A value of one of these types is valid: whoever holds a [`Mint`] holds 32 bytes that were
//! written in base58, whoever holds a [`Symbol`] holds 1 to 64 characters. Checks therefore
//! happen once, where outside data comes in, and every error says precisely what is wrong.
//!
//! Text is kept exactly as given. Real token names begin and end with blanks, and the world
//! has symbols of 21 characters and tokens of 100 decimals: none of that is ours to mend.
//!
//! ```
//! use forebay_model::{Decimals, Mint, Symbol};
//!
//! let usdc: Mint = "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v".parse()?;
//! assert_eq!(usdc.to_string(), "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v");
//! assert_eq!(Symbol::new(" USDC ")?.as_str(), " USDC ");
//! assert_eq!(
//!     Decimals::try_from(256_u32).map_err(|e| e.to_string()),
//!     Err("must be at most 255, is 256".to_owned()),
//! );
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod address;
mod curve;
mod dex;
mod id;
mod metadata;
mod number;
mod pool;
mod public_key;
mod text;
mod token;

pub use address::{Mint, PoolAddress, VaultAddress};
pub use curve::{Curve, ParseCurveError};
pub use dex::{Dex, DexError};
pub use id::{ParseIdError, PoolId, TokenId};
pub use metadata::{
    EXTENSION_KEY_CHARS_MAX, EXTENSION_VALUE_BYTES_MAX, EXTENSIONS_MAX, Extensions,
    ExtensionsError, LOGO_URI_BYTES_MAX, LogoUri, LogoUriError, TAG_CHARS_MAX, TAGS_MAX, Tags,
    TagsError,
};
pub use number::{Decimals, FeeBps, NumberError, Version};
pub use pool::{Pool, PoolFacts};
pub use public_key::{ParsePublicKeyError, PublicKey};
pub use text::{PoolName, Symbol, TextError, TokenName};
pub use token::{Token, TokenFacts};
