//! `/v2/{project_id}/tokens`: the embedded identity's tokens, made, listed and revoked by
//! administrators. The secret is in the answer to its creation and nowhere else.

use std::sync::Arc;

use pileus_sdk::{
    Action, Call, Column, Fault, Page, Reply, Resource, SortValue, StatusCode,
    extension::Deps,
    header, json,
    model::{Command, Engine, Time, Token},
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
    #[serde(default)]
    expires_at: Option<String>,
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
            Action::index("tokens:index", "Lists tokens, without their secrets", &it, Tokens::index)
                .pages(COLUMNS),
            Action::create("tokens:create", "Makes a token; its secret is shown once", &it, Tokens::create),
            Action::delete("tokens:delete", "Revokes a token by its name", &it, Tokens::delete),
        ],
    }
}

/// Sort keys of a list of tokens.
const COLUMNS: &[Column<Arc<Token>>] = &[
    Column::id("name", |token| SortValue::text(&token.name)),
    Column::new("user", |token| SortValue::text(&token.user)),
    Column::new("project", |token| SortValue::text(&token.project)),
    Column::new("created", |token| SortValue::number(token.created.0)),
];

impl Tokens {
    async fn index(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        let view = self.engine.view();
        let cut = Page::of(&call)?.of_list(view.tokens.values(), COLUMNS, &[])?;
        cut.map(|token| document(token)).reply(&call, "tokens")
    }

    async fn create(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        let new: New = call.json("token")?;
        let expires = new.expires_at.as_deref().map(moment).transpose()?;
        let secret = identity::new_secret().map_err(Fault::internal)?;
        let sha256 = identity::hash(&secret);
        let command = Command::CreateToken {
            sha256: sha256.as_str().into(),
            name: new.name.into(),
            user: new.user.into(),
            project: new.project.into(),
            roles: new.roles,
            expires,
            replaces: false,
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

/// Parses RFC 3339.
fn moment(text: &str) -> Result<Time, Fault> {
    let wrong = |_| {
        let form = "a time as in `2027-01-31T12:00:00Z` (RFC 3339), or null";
        Fault::BadRequest(format!("Invalid input for field `token.expires_at`: expected {form}"))
    };
    text.parse::<jiff::Timestamp>().map(|at| Time(at.as_millisecond())).map_err(wrong)
}

/// A token without its secret: `expires_at` is null if the token has no end.
pub(crate) fn document(token: &Token) -> Value {
    let shown = |at: Time| jiff::Timestamp::from_millisecond(at.0).map(|at| at.to_string()).ok();
    json!({
        "name": token.name, "user": token.user, "project": token.project, "roles": token.roles,
        "created": shown(token.created), "expires_at": token.expires.and_then(shown),
    })
}
