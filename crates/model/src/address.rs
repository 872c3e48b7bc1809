//! Addresses: public keys that say what they are the address of.

use std::fmt;
use std::str::FromStr;

use crate::{ParsePublicKeyError, PublicKey};

macro_rules! address {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(PublicKey);

        impl $name {
            /// The address with this key.
            pub const fn new(key: PublicKey) -> Self {
                Self(key)
            }

            /// The key.
            pub const fn key(&self) -> &PublicKey {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = ParsePublicKeyError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    };
}

address! {
    /// Address of a token's mint: what makes a token that token.
    Mint
}
address! {
    /// Address of a liquidity pool's account.
    PoolAddress
}
address! {
    /// Address of a token account that holds one side of a liquidity pool's reserves.
    VaultAddress
}
