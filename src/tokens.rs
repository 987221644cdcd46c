//! `/v2/{project_id}/tokens`: the embedded identity's tokens, made, listed and revoked by
//! administrators. The secret is in the answer to its creation and nowhere else.

use std::sync::Arc;

use pileus_sdk::{
    Action, Call, Fault, Reply, Resource, StatusCode,
    extension::Deps,
    header, json,
    model::{Command, Engine, Token},
};
use serde::Deserialize;
use serde_json::Value;

use crate::identity;

/// Translates between HTTP and the engine's tokens.
struct Tokens {
    engine: Arc<dyn Engine>,
}

/// `{"token": {…}}` of a creation.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct New {
    name: String,
    user: String,
    project: String,
    #[serde(default = "member")]
    roles: Vec<String>,
}

fn member() -> Vec<String> {
    vec!["member".into()]
}

/// The resource.
pub fn resource(deps: &Deps) -> Resource {
    let it = Arc::new(Tokens { engine: deps.engine.clone() });
    Resource {
        collection: "tokens",
        parent: None,
        actions: vec![
            Action::index("tokens:index", "Lists tokens, without their secrets", &it, Tokens::index),
            Action::create("tokens:create", "Makes a token; its secret is shown once", &it, Tokens::create),
            Action::delete("tokens:delete", "Revokes a token by its name", &it, Tokens::delete),
        ],
    }
}

impl Tokens {
    async fn index(self: Arc<Self>, _: Call) -> Result<Reply, Fault> {
        let view = self.engine.view();
        let mut tokens: Vec<_> = view.tokens.values().collect();
        tokens.sort_by(|a, b| a.name.cmp(&b.name));
        let tokens: Vec<Value> = tokens.into_iter().map(|token| document(token)).collect();
        Reply::ok(&json!({ "tokens": tokens }))
    }

    async fn create(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        let new: New = call.json("token")?;
        let secret = identity::new_secret().map_err(Fault::internal)?;
        let sha256 = identity::hash(&secret);
        let command = Command::CreateToken {
            sha256: sha256.as_str().into(),
            name: new.name.into(),
            user: new.user.into(),
            project: new.project.into(),
            roles: new.roles,
        };
        let made = self.engine.submit(command, call.actor()).await?;
        let token = made.view.tokens.get(sha256.as_str());
        let mut token = document(token.ok_or_else(|| Fault::internal("the token is not in the view"))?);
        token["secret"] = secret.into();
        // The secret is in this answer and nowhere else: nobody on its way shall keep it.
        let reply = Reply::json(StatusCode::CREATED, &json!({ "token": token }))?;
        Ok(reply.header(header::CACHE_CONTROL, "no-store"))
    }

    async fn delete(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        let command = Command::RevokeToken { name: call.id().as_ref().into() };
        self.engine.submit(command, call.actor()).await?;
        Reply::status(StatusCode::NO_CONTENT)
    }
}

fn document(token: &Token) -> Value {
    json!({
        "name": token.name, "user": token.user, "project": token.project, "roles": token.roles,
        "created": jiff::Timestamp::from_millisecond(token.created.0).map(|at| at.to_string()).ok(),
    })
}
