//! The peers, each as its documentation shows it.
//!
//! A set hands over an owned key, since all of them want one. Shards and policies are the defaults of
//! each, but for foyer's, which is S3-FIFO here.

use std::hash::BuildHasher;

use crate::contenders::{Room, Session, Store, Value};
use crate::load::Keys;

type OwnedKey = Box<[u8]>;

/// What hashes the keys.
pub(super) trait Hash: BuildHasher + Clone + Default + Send + Sync + 'static {}

impl<H: BuildHasher + Clone + Default + Send + Sync + 'static> Hash for H {}

/// W-TinyLFU. Its upkeep is done by those who use it, at their own expense.
pub(super) struct Moka<H>(moka::sync::Cache<OwnedKey, Value, H>);

impl<H: Hash> Store for Moka<H> {
    type Session<'s> = &'s Self;

    fn open(room: Room, keys: &Keys) -> Self {
        let builder = moka::sync::Cache::builder().max_capacity(room.entries(keys));
        Self(builder.build_with_hasher(H::default()))
    }

    fn session(&self) -> &Self {
        self
    }

    fn entries(&self) -> u64 {
        self.0.run_pending_tasks();
        self.0.entry_count()
    }
}

impl<H: Hash> Session for &Moka<H> {
    fn get(&mut self, key: &[u8], value: &mut Value) -> bool {
        self.0.get(key).map(|found| *value = found).is_some()
    }

    fn set(&mut self, key: &[u8], value: &Value) {
        self.0.insert(key.into(), *value);
    }
}

/// A variant of Clock-PRO, close to S3-FIFO.
pub(super) struct QuickCache<H>(
    quick_cache::sync::Cache<OwnedKey, Value, quick_cache::UnitWeighter, H>,
);

impl<H: Hash> Store for QuickCache<H> {
    type Session<'s> = &'s Self;

    fn open(room: Room, keys: &Keys) -> Self {
        let entries = room.entries(keys);
        Self(quick_cache::sync::Cache::with(
            entries as usize,
            entries,
            quick_cache::UnitWeighter,
            H::default(),
            quick_cache::sync::DefaultLifecycle::default(),
        ))
    }

    fn session(&self) -> &Self {
        self
    }

    fn entries(&self) -> u64 {
        self.0.len() as u64
    }
}

impl<H: Hash> Session for &QuickCache<H> {
    fn get(&mut self, key: &[u8], value: &mut Value) -> bool {
        self.0.get(key).map(|found| *value = found).is_some()
    }

    fn set(&mut self, key: &[u8], value: &Value) {
        self.0.insert(key.into(), *value);
    }
}

/// The in-memory part of foyer, with S3-FIFO.
pub(super) struct Foyer<H: Hash>(foyer_memory::Cache<OwnedKey, Value, H>);

impl<H: Hash> Store for Foyer<H> {
    type Session<'s> = &'s Self;

    fn open(room: Room, keys: &Keys) -> Self {
        let builder = foyer_memory::CacheBuilder::new(room.entries(keys) as usize)
            .with_eviction_config(foyer_memory::S3FifoConfig::default())
            .with_hash_builder(H::default());
        Self(builder.build())
    }

    fn session(&self) -> &Self {
        self
    }

    fn entries(&self) -> u64 {
        self.0.entries() as u64
    }
}

impl<H: Hash> Session for &Foyer<H> {
    fn get(&mut self, key: &[u8], value: &mut Value) -> bool {
        self.0
            .get(key)
            .map(|found| *value = *found.value())
            .is_some()
    }

    fn set(&mut self, key: &[u8], value: &Value) {
        self.0.insert(key.into(), *value);
    }
}

/// A map of locked shards, without a bound.
pub(super) struct Dashmap<H>(dashmap::DashMap<OwnedKey, Value, H>);

impl<H: Hash> Store for Dashmap<H> {
    type Session<'s> = &'s Self;

    fn open(_: Room, _: &Keys) -> Self {
        Self(dashmap::DashMap::default())
    }

    fn session(&self) -> &Self {
        self
    }

    fn entries(&self) -> u64 {
        self.0.len() as u64
    }
}

impl<H: Hash> Session for &Dashmap<H> {
    fn get(&mut self, key: &[u8], value: &mut Value) -> bool {
        self.0.get(key).map(|found| *value = *found).is_some()
    }

    fn set(&mut self, key: &[u8], value: &Value) {
        self.0.insert(key.into(), *value);
    }
}

/// A map with lock-free reads, without a bound; a pin for each operation.
pub(super) struct Papaya<H>(papaya::HashMap<OwnedKey, Value, H>);

impl<H: Hash> Store for Papaya<H> {
    type Session<'s> = &'s Self;

    fn open(_: Room, _: &Keys) -> Self {
        Self(papaya::HashMap::default())
    }

    fn session(&self) -> &Self {
        self
    }

    fn entries(&self) -> u64 {
        self.0.pin().len() as u64
    }
}

impl<H: Hash> Session for &Papaya<H> {
    fn get(&mut self, key: &[u8], value: &mut Value) -> bool {
        let map = self.0.pin();
        map.get(key).map(|found| *value = *found).is_some()
    }

    fn set(&mut self, key: &[u8], value: &Value) {
        self.0.pin().insert(key.into(), *value);
    }
}
