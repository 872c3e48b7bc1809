//! Pools as messages.

use forebay_grpc::etag;
use forebay_model::{Curve, Pool, PoolFacts};
use forebay_proto::pool::v1 as pb;

/// The message of a pool.
pub(crate) fn to_message(pool: Pool) -> pb::Pool {
    let PoolFacts {
        base_vault,
        quote_vault,
        lp_mint,
        lp_decimals,
        curve,
        trade_fee,
        owner_fee,
        name,
    } = pool.facts;
    pb::Pool {
        id: pool.id.to_string(),
        pool_address: pool.pool_address.to_string(),
        dex: pool.dex.to_string(),
        base_mint: pool.base_mint.to_string(),
        quote_mint: pool.quote_mint.to_string(),
        base_token_id: pool.base_token_id.to_string(),
        quote_token_id: pool.quote_token_id.to_string(),
        base_vault: base_vault.to_string(),
        quote_vault: quote_vault.to_string(),
        lp_mint: lp_mint.to_string(),
        lp_decimals: lp_decimals.get().into(),
        curve: curve_to_message(curve).into(),
        trade_fee_bps: trade_fee.get().into(),
        owner_fee_bps: owner_fee.get().into(),
        name: name.into_string(),
        version: pool.version.get(),
        etag: etag::encode(pool.version.get()),
        create_time: Some(pool.created_at.into()),
        update_time: Some(pool.updated_at.into()),
    }
}

/// The curve of a number on the wire; `None` when it is not said or not known.
pub(crate) fn curve_from_message(number: i32) -> Option<Curve> {
    match pb::Curve::try_from(number) {
        Ok(pb::Curve::ConstantProduct) => Some(Curve::ConstantProduct),
        Ok(pb::Curve::Stable) => Some(Curve::Stable),
        Ok(pb::Curve::Unspecified) | Err(_) => None,
    }
}

fn curve_to_message(curve: Curve) -> pb::Curve {
    match curve {
        Curve::ConstantProduct => pb::Curve::ConstantProduct,
        Curve::Stable => pb::Curve::Stable,
    }
}
