//! What stages remember over a change of pipelines: how much of its limits everybody has used, which
//! requests are in flight. A new pipeline takes it over where its section says the same as before.

use std::{
    any::Any,
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use crate::paste::Section;

/// A store for all pipelines of a process. It keeps nothing alive: a pipeline does.
#[derive(Clone, Default)]
pub struct Kept {
    all: Arc<Mutex<HashMap<String, Weak<dyn Any + Send + Sync>>>>,
    pipeline: String,
}

impl Kept {
    /// The same store, for the stages of one pipeline: what two of them make of one section are two.
    pub fn within(&self, pipeline: &str) -> Self {
        Self { all: self.all.clone(), pipeline: pipeline.to_owned() }
    }

    /// What the stage of this section has, or had in the pipeline before; else what `make` gives.
    pub fn of<T: Send + Sync + 'static>(&self, section: &Section, make: impl FnOnce() -> T) -> Arc<T> {
        let mut key = format!("{}\0{}", self.pipeline, section.name);
        for (name, setting) in &section.settings {
            key += &format!("\0{name}={}", setting.value);
        }
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, kept| kept.strong_count() > 0);
        let before = all.get(&key).and_then(Weak::upgrade).and_then(|kept| kept.downcast::<T>().ok());
        before.unwrap_or_else(|| {
            let made = Arc::new(make());
            let kept: Arc<dyn Any + Send + Sync> = made.clone();
            all.insert(key, Arc::downgrade(&kept));
            made
        })
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kept")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_says_the_same_is_the_same_as_long_as_somebody_has_it() {
        let kept = Kept::default();
        let of = |pipeline: &str, text: &str| {
            let section = Section::from_text("filter.ratelimit", text);
            kept.within(pipeline).of(&section, || Mutex::new(0))
        };
        let first = of("v2", "value = 1");
        *first.lock().unwrap() = 7;
        assert!(Arc::ptr_eq(&first, &of("v2", "# the same\nvalue = 1")));
        assert!(!Arc::ptr_eq(&first, &of("v2", "value = 2")), "it says something else");
        assert!(!Arc::ptr_eq(&first, &of("info", "value = 1")), "of another pipeline");
        drop(first);
        assert_eq!(*of("v2", "value = 1").lock().unwrap(), 0, "nobody had it any more");
        assert!(kept.all.lock().unwrap().len() <= 2);
    }
}
