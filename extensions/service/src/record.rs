//! Events of actions on the service itself. Each is durable before its action takes effect.

use pileus_sdk::{
    Deps,
    model::{Actor, Command, Refusal},
    tracing::warn,
};

/// Writes the event `service_action`. `Err`: it is not written; the action must not take effect.
pub async fn record(deps: &Deps, action: &str, detail: &str, by: Actor) -> Result<(), Refusal> {
    let command = Command::RecordServiceAction { action: action.into(), detail: detail.into() };
    deps.engine.submit(command, by).await.map(drop)
}

/// As [`record`], but where the state cannot be written, a line in the log takes the place of the event: an
/// administrator has to get on with a full disk. `Err`: another refusal; the action must not take effect.
pub async fn record_or_log(deps: &Deps, action: &str, detail: &str, by: Actor) -> Result<(), Refusal> {
    match record(deps, action, detail, by.clone()).await {
        Err(problem @ (Refusal::Full | Refusal::Unavailable)) => {
            let Actor { user, project, request_id, .. } = by;
            warn!(
                action, detail, user.id = %user, project.id = %project, request_id = %request_id, %problem,
                "service action takes effect without its event"
            );
            Ok(())
        }
        done => done,
    }
}
