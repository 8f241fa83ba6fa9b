//! The closed loop: a batch of requests in one write, then all of their replies, then the next batch.

use std::time::Instant;

use super::connection::{Connection, End, Lost, Orders, Values, first_request};
use super::source::{Operation, Source};
use super::wire::Reply;

/// Works until nothing is left to do, or the time is over.
pub(super) async fn work(
    mut connection: Connection,
    mut source: Source,
    orders: Orders,
) -> Result<(), Lost> {
    connection.make_room_for(&orders);
    let mut batch = Vec::with_capacity(orders.depth * orders.keys_per_get);
    let mut now = Instant::now();
    while !orders.is_over(now) {
        source.fill(orders.depth, &mut batch);
        if batch.is_empty() {
            break;
        }
        now = run(&mut connection, &batch, &orders).await?;
    }
    Ok(())
}

/// Sends a batch and reads its replies; gives the time of the last.
async fn run(
    connection: &mut Connection,
    batch: &[Operation],
    orders: &Orders,
) -> Result<Instant, Lost> {
    connection.outbox.clear();
    let mut pushed = 0;
    while pushed < batch.len() {
        let request = first_request(&batch[pushed..]);
        let Connection { wire, outbox, .. } = connection;
        wire.push_request(request, pushed as u32, outbox);
        pushed += request.len();
    }
    orders.tally.lock().sent += batch.len() as u64;
    let (mut written, mut answered, mut end) = (0, 0, End::Waiting);
    let sent_at = Instant::now();
    loop {
        connection.exchange(&mut written).await?;
        let now = Instant::now();
        let latency = now - sent_at;
        let mut tally = orders.tally.lock();
        let each = |operation, reply: Reply<'_>| {
            tally.count(operation, reply, latency, now);
            if orders.values == Values::Verify {
                tally.verify(&orders.keyspace, operation, reply);
            }
        };
        let taken = connection.take_replies(&batch[answered..], answered as u32, each)?;
        answered += taken.operations;
        if taken.end == End::Draining {
            end = End::Draining;
        }
        if answered == batch.len() {
            return match end {
                End::Draining => Err(Lost::Said("the server is draining".to_owned())),
                End::Waiting => Ok(now),
            };
        }
    }
}
