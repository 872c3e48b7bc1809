//! `cargo xtask call`: any method of a running service, through server reflection.
//!
//! Without arguments it lists services, with a service its methods, with a method it calls. The
//! reply is JSON on the standard output; everything else goes to the standard error.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use prost_reflect::{MessageDescriptor, MethodDescriptor, ServiceDescriptor};

use self::arguments::Arguments;
use self::invoke::{Answer, Caller};
use self::reflection::Server;
use crate::state::State;
use crate::workspace::Workspace;
use crate::{say, stdout, trace};

mod arguments;
mod codec;
mod failure;
mod invoke;
mod reflection;

#[cfg(test)]
mod tests;

/// A `traceparent` that asks for no record: a list of traces that is full of a tool's own
/// questions hides what was called.
pub(crate) fn unrecorded() -> String {
    Caller::random().traceparent(invoke::Recorded::No)
}

/// Lists or calls.
///
/// # Errors
///
/// When the arguments are wrong, no server is found, or none has what was asked for. A call that
/// was answered with an error is not one of these: it is printed, and the exit code is 1.
pub(crate) fn run(args: Vec<OsString>, workspace: &Workspace) -> anyhow::Result<ExitCode> {
    let Some(arguments) = arguments::parse(args)? else {
        say::line(arguments::USAGE);
        return Ok(ExitCode::SUCCESS);
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    runtime.block_on(answer(&arguments, workspace))
}

async fn answer(arguments: &Arguments, workspace: &Workspace) -> anyhow::Result<ExitCode> {
    let servers = servers(arguments, workspace).await?;
    let Some(service) = &arguments.service else {
        stdout::write(&list(&servers))?;
        return Ok(ExitCode::SUCCESS);
    };
    let server = serving(&servers, service)?;
    let described = server.describe(service).await?;
    let Some(method) = &arguments.method else {
        stdout::write(&methods(&described))?;
        return Ok(ExitCode::SUCCESS);
    };
    let method = find_method(&described, method)?;
    let caller = Caller::random();
    let answer = invoke::call(server, &method, arguments, &caller, stdout::write).await?;
    let code = match answer {
        Answer::Replied => ExitCode::SUCCESS,
        Answer::Failed(status) => {
            say::warn(failure::describe(&status).trim_end());
            ExitCode::FAILURE
        }
    };
    show_trace(arguments, workspace, &caller).await?;
    Ok(code)
}

async fn show_trace(
    arguments: &Arguments,
    workspace: &Workspace,
    caller: &Caller,
) -> anyhow::Result<()> {
    let id = &caller.trace;
    if !arguments.trace {
        say::warn(&format!("trace {id}"));
        return Ok(());
    }
    let instance = workspace.instance(arguments.instance.as_deref())?;
    let elsewhere = State::load(&instance)?.and_then(|state| state.backends.traces.query);
    if let Some(page) = elsewhere {
        say::warn(&format!("trace {id}: {page}/trace/{id}"));
        return Ok(());
    }
    let dir = instance.traces_dir();
    let drawn = trace::wait_and_draw(&dir, id, &caller.span, arguments::TRACE_TIMEOUT).await?;
    stdout::write(&drawn)
}

/// The server at `--addr`, or every server of the instance that answers.
async fn servers(arguments: &Arguments, workspace: &Workspace) -> anyhow::Result<Vec<Server>> {
    if let Some(address) = &arguments.address {
        return Ok(vec![Server::connect(address, address).await?]);
    }
    let instance = workspace.instance(arguments.instance.as_deref())?;
    let state = State::load(&instance)?.filter(State::is_running).with_context(|| {
        format!(
            "instance {} is not running: start it with `cargo xtask dev`, or name a server with --addr",
            instance.name
        )
    })?;
    let mut servers = Vec::new();
    for service in &state.services {
        let Some(address) = &service.grpc else {
            continue;
        };
        match Server::connect(&service.name, address).await {
            Ok(server) => servers.push(server),
            Err(error) => say::warn(&format!("{} does not answer: {error:#}", service.name)),
        }
    }
    if servers.is_empty() {
        bail!("no service answers: `cargo xtask status` tells more");
    }
    Ok(servers)
}

fn serving<'a>(servers: &'a [Server], service: &str) -> anyhow::Result<&'a Server> {
    let found = servers.iter().find(|server| server.services.iter().any(|name| name == service));
    found.with_context(|| format!("nothing serves {service}; there is:\n{}", list(servers)))
}

fn list(servers: &[Server]) -> String {
    let width = servers.iter().flat_map(|server| &server.services).map(String::len).max();
    let width = width.unwrap_or(0);
    let row = |server: &Server, service: &String| {
        let Server { name, address, .. } = server;
        // A server that was named by its address has no other name.
        let name = if name == address { "" } else { name };
        format!("{service:<width$}  {address}  {name}").trim_end().to_owned() + "\n"
    };
    servers
        .iter()
        .flat_map(|server| server.services.iter().map(move |service| row(server, service)))
        .collect()
}

fn methods(service: &ServiceDescriptor) -> String {
    service
        .methods()
        .map(|method| {
            let shape = |streaming: bool, message: &MessageDescriptor| {
                format!("{}{}", if streaming { "stream " } else { "" }, message.full_name())
            };
            format!(
                "{}/{}({}) returns ({})\n",
                service.full_name(),
                method.name(),
                shape(method.is_client_streaming(), &method.input()),
                shape(method.is_server_streaming(), &method.output()),
            )
        })
        .collect()
}

fn find_method(service: &ServiceDescriptor, name: &str) -> anyhow::Result<MethodDescriptor> {
    let found = service.methods().find(|method| method.name() == name);
    let method = found.with_context(|| {
        format!("{} has no method {name}; it has:\n{}", service.full_name(), methods(service))
    })?;
    if method.is_client_streaming() {
        bail!("{} takes a stream of requests, and this sends one only", method.full_name());
    }
    Ok(method)
}
