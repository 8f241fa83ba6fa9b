//! The client's suite: every operation, over a cache in this process, over TCP, over a Unix socket,
//! and over several servers. What a test expects does not depend on which it is.
#![cfg(feature = "server")]

mod filling;
mod ground;
mod items;
mod many;
mod streams;
mod typed;

/// Makes each test one for each way.
macro_rules! over_every_way {
    ($($test:ident)*) => {
        mod embedded { $(#[tokio::test] async fn $test() {
            super::$test(&crate::ground::Ground::embedded()).await;
        })* }
        mod tcp { $(#[tokio::test] async fn $test() {
            super::$test(&crate::ground::Ground::tcp()).await;
        })* }
        mod unix { $(#[tokio::test] async fn $test() {
            super::$test(&crate::ground::Ground::unix()).await;
        })* }
        mod several_servers { $(#[tokio::test] async fn $test() {
            super::$test(&crate::ground::Ground::several()).await;
        })* }
    };
}
pub(crate) use over_every_way;
