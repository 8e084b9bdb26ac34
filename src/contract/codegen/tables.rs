//! The constant tables that the JSON form uses: the fields of every message by name and number.

use std::fmt::Write;

use heck::ToShoutySnakeCase;
use prost_reflect::{
    Cardinality, DescriptorPool, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor,
};

use super::rust_path;

type GenerateError = Box<dyn std::error::Error>;

pub(super) fn generate(pool: &DescriptorPool) -> Result<String, GenerateError> {
    let mut out = String::new();
    for message in pool.all_messages().filter(|message| is_ours(message.package_name())) {
        if message.is_map_entry() {
            continue;
        }
        let name = constant(message.full_name());
        // The reader keeps one bit per field that it has seen.
        if message.fields().len() > 64 {
            return Err(format!("{}: more than 64 fields", message.full_name()).into());
        }
        writeln!(out, "static {name}: MessageTable = MessageTable {{ fields: &[")?;
        for field in message.fields() {
            writeln!(out, "    {},", entry(&message, &field)?)?;
        }
        writeln!(out, "] }};")?;
        writeln!(out, "impl Described for {} {{", rust_path(message.full_name()))?;
        writeln!(out, "    fn table() -> &'static MessageTable {{ &{name} }}\n}}\n")?;
    }
    for declared in pool.all_enums().filter(|declared| is_ours(declared.package_name())) {
        writeln!(
            out,
            "static {}: EnumTable = EnumTable {{ values: &[",
            constant(declared.full_name())
        )?;
        for value in declared.values() {
            writeln!(out, "    ({}, {:?}),", value.number(), value.name())?;
        }
        writeln!(out, "] }};")?;
    }
    Ok(out)
}

fn entry(message: &MessageDescriptor, field: &FieldDescriptor) -> Result<String, GenerateError> {
    let (shape, kind) = if let Some((key, value)) = map_entry(field) {
        if !matches!(key, Kind::String) {
            return Err(format!("{}: keys of maps are strings", field.full_name()).into());
        }
        ("Map", value)
    } else if field.cardinality() == Cardinality::Repeated {
        ("List", field.kind())
    } else {
        ("Single", field.kind())
    };
    let oneof = match field.containing_oneof().filter(|oneof| !oneof.is_synthetic()) {
        Some(oneof) => {
            let position = message.oneofs().position(|other| other.name() == oneof.name());
            format!("Some({})", position.ok_or("a field of a foreign oneof")?)
        }
        None => "None".to_owned(),
    };
    Ok(format!(
        "FieldTable {{ number: {}, name: {:?}, json_name: {:?}, shape: Shape::{shape}, oneof: {oneof}, kind: {} }}",
        field.number(),
        field.name(),
        field.json_name(),
        kind_of(field, &kind)?,
    ))
}

fn map_entry(field: &FieldDescriptor) -> Option<(Kind, Kind)> {
    match field.kind() {
        Kind::Message(entry) if field.is_map() => {
            Some((entry.map_entry_key_field().kind(), entry.map_entry_value_field().kind()))
        }
        _ => None,
    }
}

fn kind_of(field: &FieldDescriptor, kind: &Kind) -> Result<String, GenerateError> {
    Ok(match kind {
        Kind::Double => "Double".to_owned(),
        Kind::Int32 => "Int32".to_owned(),
        Kind::Int64 => "Int64".to_owned(),
        Kind::Uint32 => "Uint32".to_owned(),
        Kind::Bool => "Bool".to_owned(),
        Kind::String => "String".to_owned(),
        Kind::Bytes => "Bytes".to_owned(),
        Kind::Enum(declared) => format!("Enum(&{})", constant(EnumDescriptor::full_name(declared))),
        Kind::Message(inner) => match inner.full_name() {
            "google.protobuf.Timestamp" => "Timestamp".to_owned(),
            "google.protobuf.Duration" => "Duration".to_owned(),
            "google.protobuf.FieldMask" => "FieldMask".to_owned(),
            name if is_ours(inner.package_name()) => format!("Message(&{})", constant(name)),
            name => return Err(format!("{}: no JSON form for {name}", field.full_name()).into()),
        },
        other => return Err(format!("{}: no JSON form for {other:?}", field.full_name()).into()),
    })
    .map(|kind| format!("Kind::{kind}"))
}

fn is_ours(package: &str) -> bool {
    package.starts_with("chatto.") && package != "chatto.rules.v1"
}

/// `chatto.api.v1.Room` as the name of a constant.
fn constant(full_name: &str) -> String {
    format!("TABLE_{}", full_name.replace('.', "_").to_shouty_snake_case())
}
