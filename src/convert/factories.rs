//! Which factories of Nova and its libraries there are, and what does here what they did.
//!
//! Sources: the `api-paste.ini` that Nova shipped from 2012 (Folsom) to today; entry points of Paste,
//! oslo.middleware and keystonemiddleware; reference §1.13, §1.14.

/// What something is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Is {
    /// A filter of `FILTERS`.
    Filter(&'static str),
    /// An app of `APPS`, with settings.
    App(&'static str, &'static [(&'static str, &'static str)]),
    /// The composite `urlmap`; whether the old one looked at more than the path.
    Urlmap { negotiates: bool },
    /// The composite `cascade`.
    Cascade,
    /// The composite `auth_strategy`.
    Strategies,
    /// The filter `authtoken`. What it needs stood most often in another file: where nothing says where
    /// Keystone is, `tokens` stands in its place.
    Authenticator,
    /// Nothing: why.
    Gone(&'static str),
}

const EC2: &str = "the API of EC2 is not served; `/v2/{project_id}` is";
const VOLUMES: &str = "volumes have a service of their own since 2012";
const METADATA: &str = "VMs get no metadata by this service";
const SSL: &str = "`http_proxy_to_wsgi` believes it of the `trusted_proxies` that you name";
const CONTEXT: &str = "`tokens`, `noauth` and `authtoken` say themselves who calls";

use Is::{App, Authenticator, Cascade, Filter, Gone, Strategies, Urlmap};

/// Every factory that is known: `module:attribute`, or `egg:Distribution#entry`.
#[rustfmt::skip]
pub static FACTORIES: &[(&str, Is)] = &[
    // Composites.
    ("egg:Paste#urlmap", Urlmap { negotiates: false }),
    ("paste.urlmap:urlmap_factory", Urlmap { negotiates: false }),
    ("nova.api.openstack.urlmap:urlmap_factory", Urlmap { negotiates: true }),
    ("egg:Paste#cascade", Cascade),
    ("paste.cascade:make_cascade", Cascade),
    ("nova.api.auth:pipeline_factory", Strategies),
    ("nova.api.auth:pipeline_factory_v21", Strategies),
    ("nova.api.auth:pipeline_factory_v3", Strategies),

    // Filters.
    ("nova.api.openstack:FaultWrapper.factory", Filter("faultwrap")),
    ("oslo_middleware:CatchErrors.factory", Filter("faultwrap")),
    ("oslo_middleware.catch_errors:CatchErrors.factory", Filter("faultwrap")),
    ("egg:oslo.middleware#catch_errors", Filter("faultwrap")),
    ("nova.api.sizelimit:RequestBodySizeLimiter.factory", Filter("sizelimit")),
    ("nova.openstack.common.middleware.sizelimit:RequestBodySizeLimiter.factory", Filter("sizelimit")),
    ("oslo.middleware:RequestBodySizeLimiter.factory", Filter("sizelimit")),
    ("oslo.middleware.sizelimit:RequestBodySizeLimiter.factory", Filter("sizelimit")),
    ("oslo_middleware:RequestBodySizeLimiter.factory", Filter("sizelimit")),
    ("oslo_middleware.sizelimit:RequestBodySizeLimiter.factory", Filter("sizelimit")),
    ("egg:oslo.middleware#sizelimit", Filter("sizelimit")),
    ("nova.api.openstack.auth:NoAuthMiddleware.factory", Filter("noauth")),
    ("nova.api.openstack.auth:NoAuthMiddlewareV2_18.factory", Filter("noauth")),
    ("nova.api.openstack.auth:NoAuthMiddlewareV3.factory", Filter("noauth")),
    ("nova.api.openstack.auth:NoAuthMiddlewareOld.factory", Filter("noauth")),
    ("nova.api.openstack.compute.limits:RateLimitingMiddleware.factory", Filter("ratelimit")),
    ("nova.api.openstack.volume.limits:RateLimitingMiddleware.factory", Gone(VOLUMES)),
    ("nova.api.compute_req_id:ComputeReqIdMiddleware.factory", Filter("request_id")),
    ("nova.openstack.common.middleware.request_id:RequestIdMiddleware.factory", Filter("request_id")),
    ("oslo.middleware:RequestId.factory", Filter("request_id")),
    ("oslo_middleware:RequestId.factory", Filter("request_id")),
    ("oslo_middleware.request_id:RequestId.factory", Filter("request_id")),
    ("egg:oslo.middleware#request_id", Filter("request_id")),
    ("nova.api.openstack.requestlog:RequestLog.factory", Filter("trace")),
    ("egg:Paste#translogger", Filter("trace")),
    ("keystone.middleware.auth_token:filter_factory", Authenticator),
    ("keystoneclient.middleware.auth_token:filter_factory", Authenticator),
    ("keystonemiddleware.auth_token:filter_factory", Authenticator),
    ("egg:keystonemiddleware#auth_token", Authenticator),
    ("nova.api.auth:NovaKeystoneContext.factory", Gone(CONTEXT)),
    ("nova.api.auth:InjectContext.factory", Gone(CONTEXT)),
    ("oslo_middleware.cors:filter_factory", Filter("cors")),
    ("oslo_middleware:CORS.factory", Filter("cors")),
    ("egg:oslo.middleware#cors", Filter("cors")),
    ("oslo_middleware.http_proxy_to_wsgi:HTTPProxyToWSGI.factory", Filter("http_proxy_to_wsgi")),
    ("oslo_middleware:HTTPProxyToWSGI.factory", Filter("http_proxy_to_wsgi")),
    ("egg:oslo.middleware#http_proxy_to_wsgi", Filter("http_proxy_to_wsgi")),
    ("oslo_middleware.ssl:SSLMiddleware.factory", Gone(SSL)),
    ("egg:oslo.middleware#ssl", Gone(SSL)),
    ("oslo_middleware:Healthcheck.factory", Filter("healthcheck")),
    ("oslo_middleware.healthcheck:Healthcheck.factory", Filter("healthcheck")),
    ("oslo_middleware:Healthcheck.app_factory", App("healthcheck", &[])),
    ("oslo_middleware.healthcheck:Healthcheck.app_factory", App("healthcheck", &[])),
    ("egg:oslo.middleware#healthcheck", Filter("healthcheck")),
    ("nova.profiler:WsgiMiddleware.factory", Gone("there is no profiler; `trace` says how long a request took")),
    ("osprofiler.web:WsgiMiddleware.factory", Gone("there is no profiler; `trace` says how long a request took")),
    ("nova.api.openstack:LegacyV2CompatibleWrapper.factory", Gone("there are no microversions that it could take away")),
    ("nova.wsgi:Debug.factory", Gone("`PILEUS_LOG=pileus=debug` says more about every request")),
    ("oslo_middleware:Debug.factory", Gone("`PILEUS_LOG=pileus=debug` says more about every request")),
    ("egg:oslo.middleware#debug", Gone("`PILEUS_LOG=pileus=debug` says more about every request")),
    ("nova.api.ec2:FaultWrapper.factory", Gone(EC2)),
    ("nova.api.ec2:RequestLogging.factory", Gone(EC2)),
    ("nova.api.ec2:Lockout.factory", Gone(EC2)),
    ("nova.api.ec2:EC2KeystoneAuth.factory", Gone(EC2)),
    ("nova.api.ec2:NoAuth.factory", Gone(EC2)),
    ("nova.api.ec2:Requestify.factory", Gone(EC2)),
    ("nova.api.ec2:Authorizer.factory", Gone(EC2)),
    ("nova.api.ec2:Validator.factory", Gone(EC2)),

    // Apps.
    ("nova.api.openstack.compute:APIRouter.factory", App("router", &[("routes", "tenant")])),
    ("nova.api.openstack.compute:APIRouterV21.factory", App("router", &[("routes", "tenant")])),
    ("nova.api.openstack.compute:APIRouterV3.factory", App("router", &[("routes", "tenant")])),
    ("nova.api.openstack.compute.versions:Versions.factory", App("versions", &[])),
    // It stands where the version is mounted, not above it.
    ("nova.api.openstack.compute.versions:VersionsV2.factory", App("version", &[])),
    ("nova.api.openstack.volume:APIRouter.factory", Gone(VOLUMES)),
    ("nova.api.openstack.volume.versions:Versions.factory", Gone(VOLUMES)),
    ("nova.api.metadata.handler:MetadataRequestHandler.factory", Gone(METADATA)),
    ("nova.api.ec2:Executor.factory", Gone(EC2)),
];

/// What becomes of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setting {
    /// A whole number, under this key.
    Number(&'static str),
    /// A text, under this key.
    Text(&'static str),
    /// `true` or `false`, under this key.
    Bool(&'static str),
    /// Words between commas, under this key.
    Words(&'static str),
    /// Words between commas, under this key, of which these are known here.
    OneOf(&'static str, &'static [&'static str]),
    /// Trusted proxies, under this key: all or none in oslo.middleware, named networks here.
    Proxies(&'static str),
    /// A secret, under this key: it comes from the environment, in this variable.
    Secret(&'static str, &'static str),
    /// Keystone's host, which its port and protocol stand beside.
    KeystoneHost,
    /// What stands beside it.
    BesideHost,
    /// Nova's text of limits, under this key.
    Limits(&'static str),
    /// What it speaks of is not there yet.
    NotYet(&'static str),
    /// It has no meaning any more.
    Gone(&'static str),
}

const VERIFIED: &str = "the certificate of Keystone is always verified: name its authority with `cafile`";
const KEPT: &str = "what Keystone says is kept in this process";
const SIGNED: &str = "signed tokens went with version 2.0 of Keystone's API";
const ASKED: &str = "Keystone is asked at `auth_url`, in version 3 of its API";
const PROJECT: &str = "every setting stands in api-paste.toml, none in the file of a service";

const SCHEME: &str = "the headers of `headers = \"…\"` are read, and no other";

/// Settings of filters and apps: ours, the old name, what becomes of it. A name that ends in `*`
/// stands for all that begin so.
#[rustfmt::skip]
pub static SETTINGS: &[(&str, &str, Setting)] = &[
    ("sizelimit", "max_request_body_size", Setting::Number("max_request_body_size")),
    ("sizelimit", "osapi_max_request_body_size", Setting::Number("max_request_body_size")),
    ("ratelimit", "limits", Setting::Limits("limits")),
    ("ratelimit", "limiter", Setting::Gone("requests are counted in this process")),
    ("ratelimit", "limits.*", Setting::NotYet("all users have the same limits so far")),
    ("ratelimit", "user", Setting::Gone("the colon behind `user` ends the name: Nova could not read this either")),
    ("authtoken", "auth_url", Setting::Text("auth_url")),
    ("authtoken", "identity_uri", Setting::Text("auth_url")),
    ("authtoken", "auth_host", Setting::KeystoneHost),
    ("authtoken", "auth_port", Setting::BesideHost),
    ("authtoken", "auth_protocol", Setting::BesideHost),
    ("authtoken", "auth_uri", Setting::Text("www_authenticate_uri")),
    ("authtoken", "www_authenticate_uri", Setting::Text("www_authenticate_uri")),
    ("authtoken", "username", Setting::Text("username")),
    ("authtoken", "admin_user", Setting::Text("username")),
    ("authtoken", "password", Setting::Secret("password", "KEYSTONE_PASSWORD")),
    ("authtoken", "admin_password", Setting::Secret("password", "KEYSTONE_PASSWORD")),
    ("authtoken", "project_name", Setting::Text("project_name")),
    ("authtoken", "admin_tenant_name", Setting::Text("project_name")),
    ("authtoken", "user_domain_id", Setting::Text("user_domain_id")),
    ("authtoken", "user_domain_name", Setting::Text("user_domain_name")),
    ("authtoken", "project_domain_id", Setting::Text("project_domain_id")),
    ("authtoken", "project_domain_name", Setting::Text("project_domain_name")),
    ("authtoken", "application_credential_id", Setting::Text("application_credential_id")),
    ("authtoken", "application_credential_secret", Setting::Secret("application_credential_secret", "KEYSTONE_SECRET")),
    ("authtoken", "token_cache_time", Setting::Number("token_cache_time")),
    ("authtoken", "delay_auth_decision", Setting::Bool("delay_auth_decision")),
    ("authtoken", "service_token_roles", Setting::Words("service_token_roles")),
    ("authtoken", "service_token_roles_required", Setting::Bool("service_token_roles_required")),
    ("authtoken", "http_connect_timeout", Setting::Number("http_connect_timeout_s")),
    ("authtoken", "http_request_max_retries", Setting::Gone("the next address of `auth_url` is tried, once")),
    ("authtoken", "admin_token", Setting::Gone("a token that is good for ever is nobody's: name a user")),
    ("authtoken", "auth_admin_prefix", Setting::Gone(ASKED)),
    ("authtoken", "auth_version", Setting::Gone(ASKED)),
    ("authtoken", "auth_type", Setting::Gone("`username` or `application_credential_id` say it")),
    ("authtoken", "auth_plugin", Setting::Gone("`username` or `application_credential_id` say it")),
    ("authtoken", "auth_section", Setting::Gone("there are no sections of settings beside this one")),
    ("authtoken", "region_name", Setting::Gone(ASKED)),
    ("authtoken", "interface", Setting::Gone(ASKED)),
    ("authtoken", "include_service_catalog", Setting::Gone("nothing here reads the catalogue")),
    ("authtoken", "cache", Setting::Gone(KEPT)),
    ("authtoken", "memcache*", Setting::Gone(KEPT)),
    ("authtoken", "revocation_cache_time", Setting::Gone(SIGNED)),
    ("authtoken", "check_revocations_for_cached", Setting::Gone(SIGNED)),
    ("authtoken", "hash_algorithms", Setting::Gone(SIGNED)),
    ("authtoken", "signing_dir*", Setting::Gone(SIGNED)),
    ("authtoken", "enforce_token_bind", Setting::NotYet("tokens that are bound to something are not there yet")),
    ("authtoken", "service_type", Setting::NotYet("access rules are not there yet: a token with such rules is refused")),
    ("authtoken", "insecure", Setting::Gone(VERIFIED)),
    ("authtoken", "cafile", Setting::Text("cafile")),
    ("authtoken", "certfile", Setting::Text("certfile")),
    ("authtoken", "keyfile", Setting::Text("keyfile")),
    ("*", "oslo_config_project", Setting::Gone(PROJECT)),
    ("*", "oslo_config_file", Setting::Gone(PROJECT)),
    ("*", "oslo_config_program", Setting::Gone(PROJECT)),
    ("cors", "allowed_origin", Setting::Words("allowed_origin")),
    ("cors", "allow_credentials", Setting::Bool("allow_credentials")),
    ("cors", "allow_headers", Setting::Words("allow_headers")),
    ("cors", "allow_methods", Setting::Words("allow_methods")),
    ("cors", "expose_headers", Setting::Words("expose_headers")),
    ("cors", "max_age", Setting::Number("max_age_s")),
    ("cors", "latent_*", Setting::Gone("these are defaults of Nova's code, and no settings of a file")),
    ("healthcheck", "path", Setting::Text("path")),
    ("healthcheck", "detailed", Setting::Bool("detailed")),
    ("healthcheck", "backends", Setting::OneOf("backends", &["disable_by_file", "disable_by_files_ports"])),
    ("healthcheck", "disable_by_file_path", Setting::Text("disable_by_file_path")),
    ("healthcheck", "disable_by_file_paths", Setting::Words("disable_by_file_paths")),
    ("healthcheck", "enable_by_file_paths", Setting::NotYet("there is no backend `enable_by_files`")),
    ("healthcheck", "allowed_source_ranges", Setting::Words("allowed_source_ranges")),
    ("healthcheck", "ignore_proxied_requests", Setting::NotYet("`allowed_source_ranges` limits the callers")),
    ("http_proxy_to_wsgi", "enable_proxy_headers_parsing", Setting::Proxies("trusted_proxies")),
    ("http_proxy_to_wsgi", "use_forwarded_for", Setting::Proxies("trusted_proxies")),
    ("http_proxy_to_wsgi", "secure_proxy_ssl_header", Setting::Gone(SCHEME)),
];

/// What becomes of a setting of one of our factories.
pub fn setting(factory: &str, name: &str) -> Option<Setting> {
    let is = |pattern: &str| match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    };
    SETTINGS.iter().find(|row| (row.0 == factory || row.0 == "*") && is(row.1)).map(|row| row.2)
}

/// Nova's own limits, where the file has none: verb, what people read, regex, how many, unit.
/// `POST ^/servers` is not among them: by a mistake it never held.
#[rustfmt::skip]
pub static LIMITS_2012: &[(&str, &str, &str, u32)] = &[
    ("POST", "*", ".*", 10),
    ("PUT", "*", ".*", 10),
    ("GET", "*changes-since*", ".*changes-since.*", 3),
    ("DELETE", "*", ".*", 100),
];

/// The same since June 2013.
#[rustfmt::skip]
pub static LIMITS_2013: &[(&str, &str, &str, u32)] = &[
    ("POST", "*", ".*", 120),
    ("PUT", "*", ".*", 120),
    ("GET", "*changes-since*", ".*changes-since.*", 120),
    ("DELETE", "*", ".*", 120),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::{APPS, FILTERS};

    #[test]
    fn the_table_speaks_of_what_is_there() {
        let filter = |name: &str| FILTERS.iter().any(|it| it.name == name);
        for (at, (name, is)) in FACTORIES.iter().enumerate() {
            assert!(!FACTORIES[..at].iter().any(|row| row.0 == *name), "{name} stands there twice");
            match is {
                Filter(ours) => assert!(filter(ours), "{name}: {ours}"),
                App(ours, _) => assert!(APPS.iter().any(|it| it.name == *ours), "{name}: {ours}"),
                Authenticator => assert!(filter("authtoken"), "{name}"),
                _ => {}
            }
        }
        for (ours, name, _) in SETTINGS {
            assert!(*ours == "*" || filter(ours), "{ours} {name}");
        }
    }
}
