//! The gRPC contracts of `proto/`, generated and committed.
//!
//! Building needs no `protoc`: `cargo xtask codegen` rewrites `src/gen` and
//! `cargo xtask codegen --check` fails when it is stale.

/// `forebay.token.v1`: tokens.
pub mod token {
    /// Version 1.
    #[expect(
        clippy::allow_attributes_without_reason,
        clippy::clone_on_ref_ptr,
        reason = "generated"
    )]
    #[expect(clippy::too_many_lines, clippy::allow_attributes, reason = "generated")]
    #[expect(clippy::as_conversions, reason = "generated")]
    pub mod v1 {
        include!("gen/forebay.token.v1.rs");
    }

    /// Version 1 for a server that has encoded tokens at hand: on the wire it is [`v1`], but
    /// its replies take tokens as bytes.
    #[expect(
        clippy::allow_attributes_without_reason,
        clippy::clone_on_ref_ptr,
        reason = "generated"
    )]
    #[expect(clippy::too_many_lines, clippy::allow_attributes, reason = "generated")]
    #[expect(clippy::as_conversions, reason = "generated")]
    pub mod v1_stored {
        include!("gen/forebay.token.v1.stored.rs");
    }
}

/// `forebay.pool.v1`: liquidity pools.
pub mod pool {
    /// Version 1.
    #[expect(
        clippy::allow_attributes_without_reason,
        clippy::clone_on_ref_ptr,
        reason = "generated"
    )]
    #[expect(clippy::too_many_lines, clippy::allow_attributes, reason = "generated")]
    #[expect(clippy::as_conversions, reason = "generated")]
    pub mod v1 {
        include!("gen/forebay.pool.v1.rs");
    }

    /// Version 1 for a server that has encoded pools at hand: on the wire it is [`v1`], but
    /// its replies take pools as bytes.
    #[expect(
        clippy::allow_attributes_without_reason,
        clippy::clone_on_ref_ptr,
        reason = "generated"
    )]
    #[expect(clippy::too_many_lines, clippy::allow_attributes, reason = "generated")]
    #[expect(clippy::as_conversions, reason = "generated")]
    pub mod v1_stored {
        include!("gen/forebay.pool.v1.stored.rs");
    }
}

/// `forebay.ops.v1`: operations.
pub mod ops {
    /// Version 1.
    #[expect(
        clippy::allow_attributes_without_reason,
        clippy::clone_on_ref_ptr,
        reason = "generated"
    )]
    #[expect(clippy::too_many_lines, clippy::allow_attributes, reason = "generated")]
    #[expect(clippy::as_conversions, reason = "generated")]
    pub mod v1 {
        include!("gen/forebay.ops.v1.rs");
    }
}

/// The encoded `google.protobuf.FileDescriptorSet` of every contract, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("gen/forebay.descriptors.bin");
