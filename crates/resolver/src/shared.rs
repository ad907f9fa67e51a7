//! One piece of work for all who want the same at the same time.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex};

use tokio::sync::watch;

use crate::sessions::lock;

/// Work under way, by what it is for.
#[derive(Debug)]
pub struct Shared<K, V>(Mutex<HashMap<K, watch::Receiver<Option<V>>>>);

impl<K, V> Default for Shared<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Clone + Eq + Hash + Send + 'static, V: Clone + Send + Sync + 'static> Shared<K, V> {
    /// What the work gives: that which is under way for this key, or else a new one. It goes on to its end although nobody should wait
    /// for it any more. `None` only when the process ends.
    pub async fn get<F: Future<Output = V> + Send + 'static>(self: &Arc<Self>, key: K, work: impl FnOnce() -> F) -> Option<V> {
        let mut result = {
            let mut under_way = lock(&self.0);
            match under_way.get(&key) {
                Some(result) => result.clone(),
                None => {
                    let (done, result) = watch::channel(None);
                    under_way.insert(key.clone(), result.clone());
                    let (work, all) = (work(), self.clone());
                    tokio::spawn(async move {
                        let value = work.await;
                        lock(&all.0).remove(&key);
                        // Nobody may be waiting.
                        done.send_replace(Some(value));
                    });
                    result
                }
            }
        };
        let value = result.wait_for(Option::is_some).await.ok()?;
        value.clone()
    }
}
