//! Maps and sets for a hundred thousand jobs: half the time of a cycle would go into the hash that
//! `std` takes by itself. This one is seeded anew in every process, too, and nothing depends on its order.

use foldhash::fast::RandomState;

pub type HashMap<K, V> = std::collections::HashMap<K, V, RandomState>;
pub type HashSet<T> = std::collections::HashSet<T, RandomState>;
