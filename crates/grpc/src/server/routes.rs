//! Which handler answers a path.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};

use parking_lot::Mutex;
use prost::Message;
use prost_types::FileDescriptorSet;
use tonic::body::Body;
use tonic::server::NamedService;
use tower::Service;

use super::health::Health;
use super::observe::CodeAttributes;

/// Domain of the errors that belong to no service of ours.
pub(crate) const KIT_DOMAIN: &str = "grpc.forebay";

/// What the conventions call a method the server does not know: naming it
/// would let callers fill our metrics with names of their own.
const OTHER: &str = "_OTHER";

type BoxError = Box<dyn std::error::Error + Send + Sync>;
pub(crate) type HandlerFuture = Pin<Box<dyn Future<Output = http::Response<Body>> + Send>>;

/// One method, with everything about it that does not change from call to call.
pub(crate) struct Method {
    /// `pkg.Service/Method`.
    pub(crate) name: &'static str,
    /// Domain of its errors, such as `token.forebay`.
    pub(crate) domain: &'static str,
    /// Whether it streams in either direction.
    pub(crate) streaming: bool,
    /// Whether it is part of the kit (health, reflection) and not work.
    pub(crate) kit: bool,
    /// Attributes of its metric, by code.
    pub(crate) attributes: CodeAttributes,
    handler: Option<Arc<dyn Handler>>,
}

impl Method {
    /// Starts the call; `None` when there is no such service.
    pub(crate) fn call(&self, request: http::Request<Body>) -> Option<HandlerFuture> {
        self.handler.as_ref().map(|handler| handler.call(request))
    }
}

impl fmt::Debug for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Method").field("name", &self.name).finish_non_exhaustive()
    }
}

/// All methods of a server.
#[derive(Debug)]
pub(crate) struct Routes {
    /// By path: `/pkg.Service/Method`.
    methods: HashMap<String, Arc<Method>>,
    /// By service, for methods that the descriptors do not name.
    services: HashMap<&'static str, Arc<Method>>,
    unknown: Arc<Method>,
}

impl Routes {
    pub(crate) fn find(&self, path: &str) -> &Arc<Method> {
        self.methods.get(path).unwrap_or_else(|| {
            path.strip_prefix('/')
                .and_then(|path| path.split_once('/'))
                .and_then(|(service, _)| self.services.get(service))
                .unwrap_or(&self.unknown)
        })
    }
}

/// Collects the services of a server.
#[derive(Default)]
pub(crate) struct RoutesBuilder {
    services: Vec<(&'static str, bool, Arc<dyn Handler>)>,
}

impl fmt::Debug for RoutesBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.services.iter().map(|(name, ..)| name).collect();
        f.debug_struct("RoutesBuilder").field("services", &names).finish()
    }
}

impl RoutesBuilder {
    pub(crate) fn add<S>(&mut self, service: S)
    where
        S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        self.services.push((S::NAME, false, Arc::new(Generated(service))));
    }

    fn add_kit<S>(&mut self, service: S)
    where
        S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        self.services.push((S::NAME, true, Arc::new(Generated(service))));
    }

    /// Adds health and reflection and makes the table.
    pub(crate) fn finish(mut self, health: &Health, reflection: bool) -> Result<Routes, BoxError> {
        let names = health.services();
        self.add_kit(health.server());
        if reflection {
            self.add_kit(reflection_builder(&names).build_v1()?);
            self.add_kit(reflection_builder(&names).build_v1alpha()?);
        }
        let mut routes = Routes {
            methods: HashMap::new(),
            services: HashMap::new(),
            unknown: Arc::new(method(OTHER.to_owned(), KIT_DOMAIN, true, true, None)),
        };
        let described = described_methods()?;
        for (service, kit, handler) in self.services {
            let domain = domain(service);
            let make = |name: &str, streaming| {
                let handler = Some(Arc::clone(&handler));
                Arc::new(method(format!("{service}/{name}"), domain, streaming, kit, handler))
            };
            routes.services.insert(service, make(OTHER, false));
            for (name, streaming) in described.get(service).into_iter().flatten() {
                routes.methods.insert(format!("/{service}/{name}"), make(name, *streaming));
            }
        }
        Ok(routes)
    }
}

fn method(
    name: String,
    domain: &'static str,
    streaming: bool,
    kit: bool,
    handler: Option<Arc<dyn Handler>>,
) -> Method {
    let name = intern(name);
    let attributes = CodeAttributes::new(name);
    Method { name, domain, streaming, kit, attributes, handler }
}

/// The methods of every service we have a contract of: name, and whether it streams.
fn described_methods() -> Result<HashMap<String, Vec<(String, bool)>>, BoxError> {
    let mut methods: HashMap<String, Vec<(String, bool)>> = HashMap::new();
    for set in [
        forebay_proto::FILE_DESCRIPTOR_SET,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ] {
        for file in FileDescriptorSet::decode(set)?.file {
            for service in &file.service {
                let name = format!("{}.{}", file.package(), service.name());
                let listed = service.method.iter().map(|method| {
                    let streaming = method.client_streaming() || method.server_streaming();
                    (method.name().to_owned(), streaming)
                });
                methods.entry(name).or_default().extend(listed);
            }
        }
    }
    Ok(methods)
}

/// Lists exactly the services that this server has.
fn reflection_builder(names: &[&'static str]) -> tonic_reflection::server::Builder<'static> {
    let kit = [
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    ];
    let builder = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(forebay_proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET);
    names.iter().chain(&kit).fold(builder, |builder, name| builder.with_service_name(*name))
}

/// `forebay.token.v1.TokenService` has the domain `token.forebay`.
fn domain(service: &str) -> &'static str {
    service
        .strip_prefix("forebay.")
        .and_then(|rest| rest.split('.').next())
        .map_or(KIT_DOMAIN, |package| intern(format!("{package}.forebay")))
}

/// A name that lives as long as the process.
///
/// Names come from the committed contracts alone, so there are few of them,
/// however many servers a process starts.
fn intern(name: String) -> &'static str {
    static NAMES: LazyLock<Mutex<HashSet<&'static str>>> = LazyLock::new(Mutex::default);
    let mut names = NAMES.lock();
    if let Some(known) = names.get(name.as_str()) {
        return known;
    }
    let name: &'static str = name.leak();
    names.insert(name);
    name
}

/// A generated service without its type.
trait Handler: Send + Sync {
    fn call(&self, request: http::Request<Body>) -> HandlerFuture;
}

struct Generated<S>(S);

impl<S> Handler for Generated<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>
        + Clone
        + Send
        + Sync,
    S::Future: Send + 'static,
{
    fn call(&self, request: http::Request<Body>) -> HandlerFuture {
        // Generated services are always ready, so `poll_ready` is not asked.
        let reply = self.0.clone().call(request);
        Box::pin(async move {
            match reply.await {
                Ok(response) => response,
                Err(never) => match never {},
            }
        })
    }
}
