//! A cache before a database: a thousand callers that want the same at once, and one query.
//!
//! ```text
//! cargo run --release --example read_through
//! ```
//!
//! It keeps its cache in its own process. With a server's URL it keeps it there, where other processes
//! share it; one line is all that differs:
//!
//! ```text
//! cargo run --release -- serve
//! cargo run --release --example read_through -- larder://127.0.0.1:5273
//! ```

mod catalogue;

use catalogue::Catalogue;
use larder::Cache;
use larder_client::Client;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let cache = match std::env::args().nth(1) {
        Some(url) => Client::connect(&url).await?,
        None => Client::embedded(Cache::builder().memory_bytes(64 << 20).build()?)?,
    };
    let catalogue = Catalogue::new(cache)?;
    let callers: Vec<_> = (0..1000)
        .map(|_| {
            let catalogue = catalogue.clone();
            tokio::spawn(async move { catalogue.product(17).await })
        })
        .collect();
    let mut answers = 0;
    for caller in callers {
        answers += usize::from(caller.await??.is_some());
    }
    println!("{answers} answers, {} queries", catalogue.queries());
    catalogue.set_price(17, 390).await?;
    let product = catalogue.product(17).await?;
    println!(
        "the price changes: {product:?}, {} queries",
        catalogue.queries()
    );
    Ok(())
}
