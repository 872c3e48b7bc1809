//! Requests checked and turned into values; a refusal names every bad field.

use std::fmt::Display;
use std::str::FromStr;

use forebay_grpc::fields::FieldViolations;
use forebay_grpc::mask::UpdateMask;
use forebay_grpc::{etag, request_id};
use forebay_model::{
    Curve, Decimals, Dex, FeeBps, Mint, Pool, PoolAddress, PoolFacts, PoolId, PoolName,
    VaultAddress, Version,
};
use forebay_proto::pool::v1 as pb;
use uuid::Uuid;

use crate::convert::curve_from_message;

/// Keys of one batch at most, ids and addresses together.
pub(crate) const BATCH_MAX: usize = 1000;

/// The fields that an update may change.
const MUTABLE: &[&str] = &[
    "base_vault",
    "quote_vault",
    "lp_mint",
    "lp_decimals",
    "curve",
    "trade_fee_bps",
    "owner_fee_bps",
    "name",
];

/// A valid batch.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) ids: Vec<PoolId>,
    pub(crate) addresses: Vec<PoolAddress>,
}

/// A valid creation.
#[derive(Debug)]
pub(crate) struct Creation {
    pub(crate) pool_address: PoolAddress,
    pub(crate) dex: Dex,
    pub(crate) base_mint: Mint,
    pub(crate) quote_mint: Mint,
    pub(crate) facts: PoolFacts,
    pub(crate) request_id: Option<Uuid>,
}

/// A valid update.
#[derive(Debug)]
pub(crate) struct Update {
    pub(crate) id: PoolId,
    pub(crate) etag: Option<Version>,
    /// What the caller believes of the fields that never change.
    pub(crate) belief: Belief,
    pub(crate) change: Change,
    pub(crate) request_id: Option<Uuid>,
}

/// Values of fields that never change; `None` says nothing.
#[derive(Debug, Default)]
pub(crate) struct Belief {
    pool_address: Option<PoolAddress>,
    dex: Option<Dex>,
    base_mint: Option<Mint>,
    quote_mint: Option<Mint>,
}

/// New values of facts; `None` keeps what is there.
#[derive(Debug, Default, PartialEq, Clone)]
pub(crate) struct Change {
    base_vault: Option<VaultAddress>,
    quote_vault: Option<VaultAddress>,
    lp_mint: Option<Mint>,
    lp_decimals: Option<Decimals>,
    curve: Option<Curve>,
    trade_fee: Option<FeeBps>,
    owner_fee: Option<FeeBps>,
    name: Option<PoolName>,
}

/// A valid deletion.
#[derive(Debug)]
pub(crate) struct Deletion {
    pub(crate) id: PoolId,
    pub(crate) etag: Option<Version>,
    pub(crate) request_id: Option<Uuid>,
}

impl Belief {
    /// Paths of the fields in which `pool` is another than believed.
    pub(crate) fn errors(&self, pool: &Pool) -> Vec<&'static str> {
        let differs = [
            ("pool.pool_address", self.pool_address.is_some_and(|it| it != pool.pool_address)),
            ("pool.dex", self.dex.as_ref().is_some_and(|it| *it != pool.dex)),
            ("pool.base_mint", self.base_mint.is_some_and(|it| it != pool.base_mint)),
            ("pool.quote_mint", self.quote_mint.is_some_and(|it| it != pool.quote_mint)),
        ];
        differs.into_iter().filter_map(|(path, differs)| differs.then_some(path)).collect()
    }
}

impl Change {
    /// Whether nothing changes.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Puts the new values in place of the old ones.
    pub(crate) fn apply(self, facts: PoolFacts) -> PoolFacts {
        PoolFacts {
            base_vault: self.base_vault.unwrap_or(facts.base_vault),
            quote_vault: self.quote_vault.unwrap_or(facts.quote_vault),
            lp_mint: self.lp_mint.unwrap_or(facts.lp_mint),
            lp_decimals: self.lp_decimals.unwrap_or(facts.lp_decimals),
            curve: self.curve.unwrap_or(facts.curve),
            trade_fee: self.trade_fee.unwrap_or(facts.trade_fee),
            owner_fee: self.owner_fee.unwrap_or(facts.owner_fee),
            name: self.name.unwrap_or(facts.name),
        }
    }

    /// The facts of a change that sets every one of them.
    fn complete(self) -> Option<PoolFacts> {
        Some(PoolFacts {
            base_vault: self.base_vault?,
            quote_vault: self.quote_vault?,
            lp_mint: self.lp_mint?,
            lp_decimals: self.lp_decimals?,
            curve: self.curve?,
            trade_fee: self.trade_fee?,
            owner_fee: self.owner_fee?,
            name: self.name?,
        })
    }
}

/// The id that a get asks for.
pub(crate) fn get(request: &pb::GetPoolRequest) -> Result<PoolId, FieldViolations> {
    let mut bad = FieldViolations::default();
    let id = bad.take("id", request.id.parse());
    id.ok_or(bad)
}

/// The address that a lookup asks for.
pub(crate) fn lookup(request: &pb::LookupPoolRequest) -> Result<PoolAddress, FieldViolations> {
    let mut bad = FieldViolations::default();
    let address = bad.take("pool_address", request.pool_address.parse());
    address.ok_or(bad)
}

/// The keys that a batch asks for.
pub(crate) fn batch(request: &pb::BatchGetPoolsRequest) -> Result<Batch, FieldViolations> {
    let mut bad = FieldViolations::default();
    let keys = request.ids.len() + request.pool_addresses.len();
    if keys > BATCH_MAX {
        // The keys themselves are not looked at: a thousand bad ones would make a huge reply.
        let field = if request.ids.len() > BATCH_MAX { "ids" } else { "pool_addresses" };
        let limit = format!("ids and addresses must be at most {BATCH_MAX} together, are {keys}");
        bad.add(field, limit);
        return Err(bad);
    }
    let ids = parse_all(&mut bad, "ids", &request.ids);
    let addresses = parse_all(&mut bad, "pool_addresses", &request.pool_addresses);
    if bad.is_empty() { Ok(Batch { ids, addresses }) } else { Err(bad) }
}

/// The pool to create.
pub(crate) fn create(request: pb::CreatePoolRequest) -> Result<Creation, FieldViolations> {
    let mut bad = FieldViolations::default();
    let request_id = bad.absorb(request_id::parse(&request.request_id));
    let Some(mut pool) = request.pool else {
        bad.add("pool", "must be set");
        return Err(bad);
    };
    let pool_address = bad.take("pool.pool_address", pool.pool_address.parse());
    let dex = bad.take("pool.dex", Dex::new(std::mem::take(&mut pool.dex)));
    let base_mint = bad.take("pool.base_mint", pool.base_mint.parse());
    let quote_mint = bad.take("pool.quote_mint", pool.quote_mint.parse());
    if base_mint.is_some() && base_mint == quote_mint {
        bad.add("pool.quote_mint", "must differ from base_mint");
    }
    let facts = facts(&mut bad, pool, |_, _| true).complete();
    match (pool_address, dex, base_mint, quote_mint, facts, request_id) {
        (
            Some(pool_address),
            Some(dex),
            Some(base_mint),
            Some(quote_mint),
            Some(facts),
            Some(request_id),
        ) if bad.is_empty() => {
            Ok(Creation { pool_address, dex, base_mint, quote_mint, facts, request_id })
        }
        _ => Err(bad),
    }
}

/// The update to make.
pub(crate) fn update(request: pb::UpdatePoolRequest) -> Result<Update, FieldViolations> {
    let mut bad = FieldViolations::default();
    let request_id = bad.absorb(request_id::parse(&request.request_id));
    let mask = bad.absorb_all(UpdateMask::parse(request.update_mask.as_ref(), MUTABLE));
    let Some(mut pool) = request.pool else {
        bad.add("pool", "must be set");
        return Err(bad);
    };
    let id = bad.take("pool.id", pool.id.parse());
    let etag = bad.absorb(etag::parse("pool.etag", &pool.etag));
    // Of a bad mask nothing is known, so what is set is checked: it is all that was meant to be.
    let includes = |path: &str, is_set| match &mask {
        Some(mask) => mask.includes(path, is_set),
        None => is_set,
    };
    let belief = belief(&mut bad, &mut pool, includes);
    let change = facts(&mut bad, pool, includes);
    match (id, etag, request_id) {
        (Some(id), Some(etag), Some(request_id)) if bad.is_empty() => {
            Ok(Update { id, etag: etag.map(Version::new), belief, change, request_id })
        }
        _ => Err(bad),
    }
}

/// The deletion to make.
pub(crate) fn delete(request: &pb::DeletePoolRequest) -> Result<Deletion, FieldViolations> {
    let mut bad = FieldViolations::default();
    let request_id = bad.absorb(request_id::parse(&request.request_id));
    let id = bad.take("id", request.id.parse());
    let etag = bad.absorb(etag::parse("etag", &request.etag));
    match (id, etag, request_id) {
        (Some(id), Some(etag), Some(request_id)) => {
            Ok(Deletion { id, etag: etag.map(Version::new), request_id })
        }
        _ => Err(bad),
    }
}

/// What an update says about fields that never change. A caller who sends back what they have
/// read names them without meaning to change them, so they are compared, not refused.
fn belief(
    bad: &mut FieldViolations,
    pool: &mut pb::Pool,
    included: impl Fn(&str, bool) -> bool,
) -> Belief {
    let mut belief = Belief::default();
    if !pool.pool_address.is_empty() && included("pool_address", true) {
        belief.pool_address = bad.take("pool.pool_address", pool.pool_address.parse());
    }
    if !pool.dex.is_empty() && included("dex", true) {
        belief.dex = bad.take("pool.dex", Dex::new(std::mem::take(&mut pool.dex)));
    }
    if !pool.base_mint.is_empty() && included("base_mint", true) {
        belief.base_mint = bad.take("pool.base_mint", pool.base_mint.parse());
    }
    if !pool.quote_mint.is_empty() && included("quote_mint", true) {
        belief.quote_mint = bad.take("pool.quote_mint", pool.quote_mint.parse());
    }
    belief
}

/// The facts of `pool` that are `included`, given their path and whether they are set.
fn facts(
    bad: &mut FieldViolations,
    pool: pb::Pool,
    included: impl Fn(&str, bool) -> bool,
) -> Change {
    let mut change = Change::default();
    if included("base_vault", !pool.base_vault.is_empty()) {
        change.base_vault = bad.take("pool.base_vault", pool.base_vault.parse());
    }
    if included("quote_vault", !pool.quote_vault.is_empty()) {
        change.quote_vault = bad.take("pool.quote_vault", pool.quote_vault.parse());
    }
    if included("lp_mint", !pool.lp_mint.is_empty()) {
        change.lp_mint = bad.take("pool.lp_mint", pool.lp_mint.parse());
    }
    if included("lp_decimals", pool.lp_decimals != 0) {
        change.lp_decimals = bad.take("pool.lp_decimals", pool.lp_decimals.try_into());
    }
    if included("curve", pool.curve != 0) {
        change.curve = curve_from_message(pool.curve);
        if change.curve.is_none() {
            bad.add("pool.curve", "must be CURVE_CONSTANT_PRODUCT or CURVE_STABLE");
        }
    }
    if included("trade_fee_bps", pool.trade_fee_bps != 0) {
        change.trade_fee = bad.take("pool.trade_fee_bps", pool.trade_fee_bps.try_into());
    }
    if included("owner_fee_bps", pool.owner_fee_bps != 0) {
        change.owner_fee = bad.take("pool.owner_fee_bps", pool.owner_fee_bps.try_into());
    }
    if included("name", !pool.name.is_empty()) {
        change.name = bad.take("pool.name", PoolName::new(pool.name));
    }
    change
}

fn parse_all<T: FromStr<Err: Display>>(
    bad: &mut FieldViolations,
    field: &str,
    texts: &[String],
) -> Vec<T> {
    let texts = texts.iter().enumerate();
    texts.filter_map(|(at, text)| bad.take(format!("{field}[{at}]"), text.parse())).collect()
}

#[cfg(test)]
mod tests;
