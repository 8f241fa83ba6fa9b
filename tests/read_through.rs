//! The example `read_through`: a stampede costs the database one query, whether the cache is in the
//! process or in a server.
#![cfg(feature = "server")]

#[path = "../examples/read_through/catalogue.rs"]
mod catalogue;
mod server_harness;

use catalogue::{Catalogue, Product};
use larder::Cache;
use larder_client::Client;
use server_harness::{address, settings, start};

async fn survives_a_stampede(cache: Client) {
    let catalogue = Catalogue::new(cache).unwrap();
    let jam = |cents| {
        let name = "jam".to_owned();
        Some(Product { name, cents })
    };
    let callers: Vec<_> = (0..1000)
        .map(|_| {
            let catalogue = catalogue.clone();
            tokio::spawn(async move { catalogue.product(17).await.unwrap() })
        })
        .collect();
    for caller in callers {
        assert_eq!(caller.await.unwrap(), jam(450));
    }
    assert_eq!(catalogue.queries(), 1);
    // That there is none is worth keeping too.
    for _ in 0..2 {
        assert_eq!(catalogue.product(18).await.unwrap(), None);
    }
    assert_eq!(catalogue.queries(), 2);
    catalogue.set_price(17, 390).await.unwrap();
    assert_eq!(catalogue.product(17).await.unwrap(), jam(390));
    assert_eq!(catalogue.product(17).await.unwrap(), jam(390));
    assert_eq!(catalogue.queries(), 3);
}

#[tokio::test]
async fn with_the_cache_in_the_process() {
    let cache = Cache::builder().memory_bytes(8 << 20).build().unwrap();
    survives_a_stampede(Client::embedded(cache).unwrap()).await;
}

#[tokio::test]
async fn with_the_cache_in_a_server() {
    let running = start(settings(2));
    let url = format!("larder://{}", address(&running));
    survives_a_stampede(Client::connect(&url).await.unwrap()).await;
}
