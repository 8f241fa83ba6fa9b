//! The clients, by the few operations that are measured.

use bytes::Bytes;
use fred::interfaces::{ClientLike, KeysInterface};
use redis::AsyncCommands;

type Failure = Box<dyn std::error::Error>;

#[derive(Clone)]
pub(crate) enum Contender {
    Larder(larder_client::Client),
    RedisRs(redis::aio::MultiplexedConnection),
    Fred(fred::clients::Client),
}

impl Contender {
    pub(crate) async fn larder(url: &str) -> Result<Self, Failure> {
        Ok(Self::Larder(larder_client::Client::connect(url).await?))
    }

    pub(crate) async fn redis_rs(url: &str) -> Result<Self, Failure> {
        let client = redis::Client::open(url)?;
        // A machine that is busy is no reason to give up.
        let config = redis::AsyncConnectionConfig::new().set_response_timeout(None);
        let connection = client
            .get_multiplexed_async_connection_with_config(&config)
            .await?;
        Ok(Self::RedisRs(connection))
    }

    pub(crate) async fn fred(url: &str) -> Result<Self, Failure> {
        let config = fred::types::config::Config::from_url(url)?;
        let client = fred::types::Builder::from_config(config).build()?;
        client.init().await?;
        Ok(Self::Fred(client))
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Larder(_) => "larder",
            Self::RedisRs(_) => "redis-rs",
            Self::Fred(_) => "fred",
        }
    }

    pub(crate) async fn set(&self, key: &'static str, value: Vec<u8>) {
        match self {
            Self::Larder(client) => {
                client.set(key, value).await.expect("stored");
            }
            Self::RedisRs(connection) => {
                let mut connection = connection.clone();
                let () = connection.set(key, value).await.expect("stored");
            }
            Self::Fred(client) => {
                let value = Bytes::from(value);
                let () = client
                    .set(key, value, None, None, false)
                    .await
                    .expect("stored");
            }
        }
    }

    pub(crate) async fn get(&self, key: &'static str) {
        match self {
            Self::Larder(client) => {
                client.get(key).await.expect("answered").expect("found");
            }
            Self::RedisRs(connection) => {
                let mut connection = connection.clone();
                let value: Option<Vec<u8>> = connection.get(key).await.expect("answered");
                value.expect("found");
            }
            Self::Fred(client) => {
                let value: Option<Bytes> = client.get(key).await.expect("answered");
                value.expect("found");
            }
        }
    }

    pub(crate) async fn get_many(&self, keys: &'static [String]) {
        let wanted = keys.len();
        let found = match self {
            Self::Larder(client) => client.get_many(keys).await.expect("answered").len(),
            Self::RedisRs(connection) => {
                let mut connection = connection.clone();
                let values: Vec<Option<Vec<u8>>> = connection.mget(keys).await.expect("answered");
                values.len()
            }
            Self::Fred(client) => {
                let keys: Vec<&'static str> = keys.iter().map(String::as_str).collect();
                let values: Vec<Option<Bytes>> = client.mget(keys).await.expect("answered");
                values.len()
            }
        };
        assert_eq!(found, wanted);
    }
}
