//! Allocations of a hit in L1 and the bytes that an entry takes in each level.
//!
//! A program of its own, started by `cache`: an allocator that counts would slow the other figures
//! down, and peers that allocate more than others.

use std::alloc::System;

use anyhow::Context as _;
use forebay_bench::cache::truth::Truth;
use forebay_bench::cache::{Stage, memory};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let postgres_url = std::env::var("DATABASE_URL").context("DATABASE_URL")?;
    let redis_url = std::env::var("REDIS_URL").context("REDIS_URL")?;
    let truth = Truth::create(&postgres_url).await.context("the rows")?;
    let stage = Stage::new(redis_url, truth);
    memory::allocations(&stage, ALLOCATOR).await.context("allocations")?;
    memory::bytes(&stage, ALLOCATOR).await.context("bytes")
}
