//! Filters: one file each. Their list is `crate::pipeline::FILTERS`.
