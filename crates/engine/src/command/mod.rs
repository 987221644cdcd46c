//! Commands: each is checked against the state and becomes events, or is refused and changes nothing.
//!
//! Pure but for the ids, which come out of the one generator. What a command needs from outside
//! (the alias file, a driver's consent) is fetched before, by [`crate::hub`].

mod clouds;
mod jobs;
pub mod keys;
mod lists;
#[cfg(test)]
mod tests;
pub mod valid;
mod vms;

pub use clouds::surplus;
pub use jobs::check_defaults as check_job_defaults;
use pileus_model::{Command, Kind, Refusal, Time, View};
pub use vms::find_all;

use crate::ids::Ids;

/// Longest detail of an action on the service, in bytes.
const DETAIL_MAX: usize = 1024;

/// What a command becomes: in this order, or not at all. An empty list: it was so already.
pub fn decide(view: &View, command: Command, now: Time, ids: &mut Ids) -> Result<Vec<Kind>, Refusal> {
    match command {
        Command::SubmitJob(spec) => jobs::submit(*spec, now, ids),
        Command::DeleteJob { job } => jobs::delete(view, &job),
        Command::HoldJob { job, reason } => jobs::hold(view, &job, reason),
        Command::ReleaseJob { job } => jobs::release(view, &job),
        Command::CreateCloud { cloud, spec } => clouds::create(view, cloud, spec),
        Command::UpdateCloud { cloud, spec } => clouds::update(view, &cloud, spec),
        Command::DeleteCloud { cloud } => clouds::delete(view, &cloud),
        Command::EnableCloud { cloud, enabled } => clouds::enable(view, &cloud, enabled),
        Command::DrainCloud { cloud } => clouds::drain(view, &cloud),
        Command::SetSlots { cloud, vm_slots } => clouds::set_slots(view, &cloud, vm_slots),
        Command::Reconfigure { clouds } => clouds::reconfigure(view, clouds),
        Command::ShutdownVms { vms, why } => vms::shutdown(view, &vms, &why),
        Command::RetireVms { vms } => vms::retire(view, &vms),
        Command::RemoveVms { vms } => vms::remove(view, &vms),
        Command::ResetVm { vm } => vms::reset(view, &vm),
        Command::SetAlias { alias, clouds } => lists::set_alias(view, alias, clouds),
        Command::DeleteAlias { alias } => lists::delete_alias(view, &alias),
        Command::SetUserLimit { user, vms } => lists::set_user_limit(view, user, vms),
        // With a file configured, the engine reads it and this is never asked.
        Command::ReloadAliases => Err(Refusal::Conflict("No alias file is configured.".into())),
        Command::ReloadUserLimits => Err(Refusal::Conflict("No user-limit file is configured.".into())),
        // The engine fetches it and never asks this.
        Command::RenewProxy { .. } => Err(Refusal::Conflict("No MyProxy server is configured.".into())),
        Command::CreateToken { sha256, name, user, project, roles, expires, replaces } => {
            let token = pileus_model::Token { sha256, name, user, project, roles, created: now, expires };
            lists::create_token(view, token, replaces)
        }
        Command::RevokeToken { name } => lists::revoke_token(view, &name),
        Command::RecordServiceAction { action, detail } => {
            valid::name("action", &action)?;
            valid::text("detail", &detail, DETAIL_MAX)?;
            Ok(vec![Kind::ServiceAction { action, detail }])
        }
        Command::KeepAnswer { key, request, answer } => keys::answered(view, key, request, answer, now),
    }
}
