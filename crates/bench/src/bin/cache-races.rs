//! The races in which caches are known to go stale, hang or fall over: ours and those of others.
//!
//! Run it by `cargo xtask bench cache-races`, which starts the stores and passes where they are:
//! `DATABASE_URL` (migrated) and `REDIS_URL`. To look into one race, name it: `cache-races burst`.

use anyhow::Context as _;
use forebay_bench::cache::Stage;
use forebay_bench::cache::races::{self, killed};
use forebay_bench::cache::truth::Truth;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let postgres_url = std::env::var("DATABASE_URL").context("DATABASE_URL")?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [first, ids] = arguments.as_slice()
        && first == killed::WRITER
    {
        return killed::write_and_wait(&postgres_url, ids).await;
    }
    let redis_url = std::env::var("REDIS_URL").context("REDIS_URL")?;
    let wants = |name: &str| arguments.is_empty() || arguments.iter().any(|wanted| wanted == name);
    let truth = Truth::create(&postgres_url).await.context("the rows")?;
    let mut stage = Stage::new(redis_url, truth);
    stage.add_node(races::BENCH);
    races::measure(&stage, wants).await.context("races")
}
