//! A catalogue in SQLite, read through a cache.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use larder_client::{Client, FillError, json};
use rusqlite::{Connection, OptionalExtension};
use serde::{Deserialize, Serialize};

/// What is cached: all that is known of a product, or that there is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Product {
    pub(crate) name: String,
    pub(crate) cents: u64,
}

/// Products by their number.
#[derive(Clone, Debug)]
pub(crate) struct Catalogue {
    cache: Client,
    database: Arc<Database>,
}

#[derive(Debug)]
struct Database {
    connection: Mutex<Connection>,
    queries: AtomicU64,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

impl Catalogue {
    /// A catalogue of one product, in a database of its own.
    pub(crate) fn new(cache: Client) -> Result<Self, Failure> {
        let connection = Connection::open_in_memory()?;
        connection.execute_batch(
            "CREATE TABLE product (id INTEGER PRIMARY KEY, name TEXT NOT NULL, cents INTEGER NOT NULL);
             INSERT INTO product VALUES (17, 'jam', 450);",
        )?;
        let database = Arc::new(Database {
            connection: Mutex::new(connection),
            queries: AtomicU64::new(0),
        });
        Ok(Self { cache, database })
    }

    /// How often the database was asked.
    pub(crate) fn queries(&self) -> u64 {
        self.database.queries.load(Ordering::Relaxed)
    }

    /// A product, from the cache or, by one caller of all, from the database.
    pub(crate) async fn product(&self, id: i64) -> Result<Option<Product>, Failure> {
        let database = self.database.clone();
        let read = self.cache.get_or_fill(key(id), async move || {
            let reading = tokio::task::spawn_blocking(move || database.read(id));
            Ok::<_, Failure>(json::to_bytes(&reading.await??)?)
        });
        match read.expire_in(Duration::from_secs(60)).await {
            Ok(product) => Ok(json::from_bytes(&product)?),
            Err(FillError::Fill(failure)) => Err(failure),
            Err(FillError::Cache(error)) => Err(error.into()),
        }
    }

    /// Changes a price. Whoever reads meanwhile sees the old one, and one of them reads the new one.
    pub(crate) async fn set_price(&self, id: i64, cents: u64) -> Result<(), Failure> {
        let database = self.database.clone();
        tokio::task::spawn_blocking(move || database.set_price(id, cents)).await??;
        self.cache.invalidate(key(id)).await?;
        Ok(())
    }
}

impl Database {
    fn read(&self, id: i64) -> Result<Option<Product>, rusqlite::Error> {
        self.queries.fetch_add(1, Ordering::Relaxed);
        let connection = self.connection.lock();
        let connection = connection.unwrap_or_else(PoisonError::into_inner);
        let product = connection.query_row(
            "SELECT name, cents FROM product WHERE id = ?1",
            [id],
            |row| {
                Ok(Product {
                    name: row.get(0)?,
                    cents: row.get::<_, i64>(1)?.unsigned_abs(),
                })
            },
        );
        product.optional()
    }

    fn set_price(&self, id: i64, cents: u64) -> Result<(), rusqlite::Error> {
        let connection = self.connection.lock();
        let connection = connection.unwrap_or_else(PoisonError::into_inner);
        let cents = i64::try_from(cents).unwrap_or(i64::MAX);
        connection.execute("UPDATE product SET cents = ?2 WHERE id = ?1", [id, cents])?;
        Ok(())
    }
}

fn key(id: i64) -> String {
    format!("product:{id}")
}
