//! What the engine tells of its own thoughts, beside the state: for people who ask why.

use crate::Name;

/// The part of all VMs that the jobs of one user and type have, or should have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypeShare {
    /// Whose it is.
    pub project: Name,
    /// For whom the VMs run.
    pub user: Name,
    /// Their type.
    pub vm_type: Name,
    /// In billionths of all VMs; in [`Shares::diff`] what is above the share, below it negative.
    pub billionths: i64,
}

/// The shares by which the scheduler decides who gets the next VM; each list in the order of its keys.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Shares {
    /// `current` without `desired`; a whole where there are VMs and no waiting job. Who is at or
    /// below zero may boot.
    pub diff: Vec<TypeShare>,
    /// By the VMs.
    pub current: Vec<TypeShare>,
    /// By the jobs that wait.
    pub desired: Vec<TypeShare>,
}

/// What a reconciler holds in its hands now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding {
    /// The name of its [`Beat`](crate::Beat).
    pub name: &'static str,
    /// For people, a fact each.
    pub lines: Vec<String>,
}

/// A machine that a driver found, and that no VM matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stray {
    /// Its name.
    pub machine: Name,
    /// Who found it.
    pub driver: String,
}
