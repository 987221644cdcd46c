//! What the engine tells of its own thoughts, beside the state: for people who ask why.

use crate::{Name, Time};

/// The part of all VMs that the jobs of one user and type have, or should have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
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
    pub diff: Vec<Share>,
    /// By the VMs.
    pub current: Vec<Share>,
    /// By the jobs that wait.
    pub desired: Vec<Share>,
}

/// VMs of a type that do not come up in a cloud: the last time that it happened. A sum of what is known
/// of single boots, for people; nothing decides by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedBoots {
    /// Where.
    pub cloud: Name,
    /// Of which type.
    pub vm_type: Name,
    /// What happened.
    pub why: String,
    /// When.
    pub at: Time,
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
