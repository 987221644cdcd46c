//! The drivers that are at work: one of each name, shared by all clouds that name it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use pileus_model::{BoxFuture, Clock, Monotonic};
use tokio::sync::RwLock;

use crate::{
    desk::Desk,
    drivers::{Driver, DriverError},
    hub::lock,
};

/// Makes the driver of this name. Called once for each name that a cloud uses; after a failure again.
pub type DriverFactory =
    dyn Fn(&str, Arc<dyn Desk>) -> BoxFuture<Result<Arc<dyn Driver>, DriverError>> + Send + Sync;

/// How long a driver may take to answer.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// A driver at work.
pub struct Slot {
    pub driver: Arc<dyn Driver>,
    /// Held shared by every `create` and alone by a sweep, so that a sweep never sees a VM that was
    /// made after its list of known ones.
    pub gate: Arc<RwLock<()>>,
    /// When strays were swept last.
    pub swept: Mutex<Option<Monotonic>>,
}

/// All drivers at work.
pub struct Fleet {
    factory: Box<DriverFactory>,
    slots: Mutex<HashMap<String, Arc<Slot>>>,
}

impl Fleet {
    pub fn new(factory: Box<DriverFactory>) -> Self {
        Self { factory, slots: Mutex::default() }
    }

    pub fn get(&self, driver: &str) -> Option<Arc<Slot>> {
        lock(&self.slots).get(driver).cloned()
    }

    /// The driver of this name; made where it is not there yet.
    pub async fn open(
        &self,
        driver: &str,
        desk: Arc<dyn Desk>,
        clock: &dyn Clock,
    ) -> Result<Arc<Slot>, DriverError> {
        if let Some(slot) = self.get(driver) {
            return Ok(slot);
        }
        let made = within(clock, (self.factory)(driver, desk)).await?;
        let slot = Slot { driver: made, gate: Arc::default(), swept: Mutex::default() };
        Ok(lock(&self.slots).entry(driver.to_owned()).or_insert(Arc::new(slot)).clone())
    }

    pub fn slots(&self) -> Vec<(String, Arc<Slot>)> {
        lock(&self.slots).iter().map(|(name, slot)| (name.clone(), slot.clone())).collect()
    }

    /// Lets go of all drivers. They hold the desk, and so the engine, which holds them.
    pub fn clear(&self) {
        lock(&self.slots).clear();
    }
}

/// A driver's answer, or that there was none in time.
pub async fn within<T>(clock: &dyn Clock, call: BoxFuture<Result<T, DriverError>>) -> Result<T, DriverError> {
    tokio::select! {
        biased;
        answer = call => answer,
        () = clock.sleep(CALL_TIMEOUT) => {
            Err(DriverError::Failed(format!("no answer within {} s", CALL_TIMEOUT.as_secs())))
        }
    }
}
