//! The method table: one enum variant and one unit type per method of the `.proto` files.

use std::fmt::Write;

use heck::{ToSnakeCase, ToUpperCamelCase};
use prost_reflect::{DescriptorPool, MethodDescriptor, ServiceDescriptor};
use prost_types::method_options::IdempotencyLevel;

use super::rust_path;

type Generated = Result<String, Box<dyn std::error::Error>>;

pub(super) fn generate(pool: &DescriptorPool) -> Generated {
    let mut services: Vec<ServiceDescriptor> = pool.services().collect();
    services.sort_by(|a, b| a.full_name().cmp(b.full_name()));

    let mut methods: Vec<MethodDescriptor> =
        services.iter().flat_map(ServiceDescriptor::methods).collect();
    methods.sort_by_key(path);

    let mut out = String::new();
    writeln!(out, "/// A method of the contract.")?;
    writeln!(out, "#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]")?;
    writeln!(out, "pub enum Method {{")?;
    for method in &methods {
        if method.is_client_streaming() || method.is_server_streaming() {
            return Err(format!("{}: all methods are unary", method.full_name()).into());
        }
        writeln!(out, "    /// `{}`", path(method))?;
        writeln!(out, "    {},", variant(method))?;
    }
    writeln!(out, "}}\n")?;

    writeln!(out, "impl Method {{")?;
    writeln!(out, "    /// Every method, sorted by path.")?;
    writeln!(out, "    pub const ALL: [Method; {}] = [", methods.len())?;
    for method in &methods {
        writeln!(out, "        Method::{},", variant(method))?;
    }
    writeln!(out, "    ];\n")?;
    writeln!(out, "    pub(super) const fn spec(self) -> &'static Spec {{")?;
    writeln!(out, "        match self {{")?;
    for method in &methods {
        writeln!(out, "            Method::{} => &{},", variant(method), spec(method)?)?;
    }
    writeln!(out, "        }}\n    }}\n}}\n")?;

    writeln!(out, "/// One type per method, grouped by service.\npub mod rpc {{")?;
    for service in &services {
        writeln!(out, "    /// Methods of `{}`.", service.full_name())?;
        writeln!(out, "    pub mod {} {{", service.name().to_snake_case())?;
        for method in service.methods() {
            let name = method.name().to_upper_camel_case();
            writeln!(out, "        /// `{}`", path(&method))?;
            writeln!(out, "        #[derive(Clone, Copy, Debug)]\n        pub struct {name};")?;
            writeln!(out, "        impl super::super::Rpc for {name} {{")?;
            let input = rust_path(method.input().full_name());
            writeln!(out, "            type Request = super::super::{input};")?;
            let output = rust_path(method.output().full_name());
            writeln!(out, "            type Response = super::super::{output};")?;
            let variant = variant(&method);
            writeln!(
                out,
                "            const METHOD: super::super::Method = super::super::Method::{variant};"
            )?;
            writeln!(out, "        }}")?;
        }
        writeln!(out, "    }}")?;
    }
    writeln!(out, "}}\n")?;

    writeln!(out, "/// Calls the visitor for every method, service by service.")?;
    writeln!(out, "pub fn each_method(visitor: &mut impl MethodVisitor) {{")?;
    for service in &services {
        let module = service.name().to_snake_case();
        for method in service.methods() {
            let name = method.name().to_upper_camel_case();
            writeln!(out, "    visitor.visit::<rpc::{module}::{name}>();")?;
        }
    }
    writeln!(out, "}}")?;
    Ok(out)
}

fn spec(method: &MethodDescriptor) -> Generated {
    let level = method.method_descriptor_proto().options.as_ref().map(|o| o.idempotency_level());
    let idempotency = match level {
        None | Some(IdempotencyLevel::IdempotencyUnknown) => "Unknown",
        Some(IdempotencyLevel::NoSideEffects) => "NoSideEffects",
        Some(IdempotencyLevel::Idempotent) => "Idempotent",
    };
    Ok(format!(
        "Spec {{ service: {:?}, name: {:?}, path: {:?}, request: {:?}, response: {:?}, \
         idempotency: Idempotency::{idempotency} }}",
        method.parent_service().full_name(),
        method.name(),
        path(method),
        method.input().full_name(),
        method.output().full_name(),
    ))
}

/// Service names are unique over all packages (`AdminRoleService`, `RoleService`), method names are not.
fn variant(method: &MethodDescriptor) -> String {
    let service = method.parent_service();
    format!("{}{}", service.name().to_upper_camel_case(), method.name().to_upper_camel_case())
}

fn path(method: &MethodDescriptor) -> String {
    format!("/api/connect/{}/{}", method.parent_service().full_name(), method.name())
}
