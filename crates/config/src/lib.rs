//! Typed settings, layered from defaults, file, environment and flags.
//!
//! The defaults are one commented file, `deploy/config/forebay.default.toml`, which is
//! compiled in and is the reference: a key that is not in it does not exist. [`load()`]
//! lays the other layers over it and reports **every** problem at once, each with its
//! key, the layer it came from and what was expected. Secrets stay in [`Secret`], which
//! never prints itself; what is shown to people is [`Setting`], already redacted.
//!
//! Every component takes one section, never the whole [`Config`], so a
//! signature shows what can affect it.
//!
//! ```
//! use forebay_config::{Invocation, load};
//!
//! let environment = [("FOREBAY__CACHE__TOKEN__TTL", "30m")];
//! let invocation = Invocation::new(["--grpc.listen=127.0.0.1:0"], environment);
//! let loaded = load("token-server", &invocation)?;
//! assert_eq!(loaded.config.cache.token.ttl.as_secs(), 1800);
//! assert_eq!(loaded.config.grpc.listen.port(), 0);
//! # Ok::<(), forebay_config::ConfigErrors>(())
//! ```

pub use error::{ConfigErrors, Problem};
pub use invocation::{Command, Invocation};
pub use load::{DEFAULTS, Loaded, load};
pub use reference::{Reference, reference};
pub use secret::Secret;
pub use sections::Config;
pub use sections::cache::{CacheConfig, EntityCacheConfig, ListCacheConfig};
pub use sections::grpc::{GrpcClientConfig, GrpcConfig};
pub use sections::ops::OpsConfig;
pub use sections::postgres::{
    PostgresBudgetConfig, PostgresConfig, PostgresMode, ServiceConnections,
};
pub use sections::process::ProcessConfig;
pub use sections::redis::RedisConfig;
pub use sections::telemetry::{LogFormat, TelemetryConfig};
pub use setting::Setting;
pub use source::Source;

mod duration;
mod error;
mod invocation;
mod layers;
mod load;
mod reader;
mod reference;
mod secret;
mod sections;
mod setting;
mod source;
mod store_url;
mod suggest;
