//! Work that is refused while the disk is full. The reserve is for what ends things and frees space.

use pileus_model::Command;

use crate::change::Change;

/// `true` if the command is refused while the disk is full: all but those that end or remove something, or
/// keep new VMs from being booted.
pub fn command_grows(command: &Command) -> bool {
    !matches!(
        command,
        Command::DeleteJob { .. }
            | Command::DeleteCloud { .. }
            | Command::EnableCloud { .. }
            | Command::SetSlots { .. }
            | Command::Reconfigure { .. }
            | Command::ShutdownVms { .. }
            | Command::RetireVms { .. }
            | Command::RemoveVms { .. }
            | Command::DeleteAlias { .. }
            | Command::RevokeToken { .. }
            | Command::CreateToken { replaces: true, .. }
    )
}

/// `true` if the change waits while the disk is full: it begins something, or its event informs only.
pub fn change_grows(change: &Change) -> bool {
    matches!(
        change,
        Change::Found { .. } | Change::Boot { .. } | Change::Start { .. } | Change::Reason { .. }
    )
}
