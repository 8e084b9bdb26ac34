//! `validate()` of every message that a request can contain, from the field options of `rules.proto`.

use std::collections::BTreeMap;
use std::fmt::Write;

use heck::{ToSnakeCase, ToUpperCamelCase};
use prost_reflect::{
    DescriptorPool, DynamicMessage, ExtensionDescriptor, FieldDescriptor, Kind, MessageDescriptor,
    Value,
};

use super::rust_path;

type GenerateError = Box<dyn std::error::Error>;

const OPTION: &str = "chatto.rules.v1.field";

/// The rules that are a number.
const NUMBERS: [&str; 8] =
    ["min_len", "max_len", "min_bytes", "max_bytes", "min_items", "max_items", "gte", "lte"];

struct Generator {
    option: ExtensionDescriptor,
    /// Sources of patterns; the position is part of the name of the static.
    patterns: Vec<String>,
}

pub(super) fn generate(pool: &DescriptorPool) -> Result<String, GenerateError> {
    let option =
        pool.get_extension_by_name(OPTION).ok_or("the option of the value rules is missing")?;
    let mut generator = Generator { option, patterns: Vec::new() };

    let mut reachable = BTreeMap::new();
    for method in pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()) {
        collect(method.input(), &mut reachable);
    }
    let mut out = String::new();
    for message in reachable.values() {
        let mut body = String::new();
        for field in message.fields() {
            generator
                .field(&field, &mut body)
                .map_err(|e| format!("{}: {e}", field.full_name()))?;
        }
        writeln!(out, "impl Validate for {} {{", rust_path(message.full_name()))?;
        writeln!(out, "    fn validate(&self) -> Result<(), RuleViolation> {{")?;
        writeln!(out, "{body}        Ok(())\n    }}\n}}\n")?;
    }
    let mut names = String::new();
    for (position, source) in generator.patterns.iter().enumerate() {
        writeln!(out, "static PATTERN_{position}: Pattern = Pattern::new({source:?});")?;
        write!(names, "&PATTERN_{position}, ")?;
    }
    writeln!(out, "#[cfg(test)]\npub(super) static PATTERNS: &[&Pattern] = &[{names}];")?;
    let bounds = bounds(pool, &generator.option)?.join(", ");
    writeln!(out, "#[cfg(test)]\npub(super) static BOUNDS: &[(&str, &str, i64)] = &[{bounds}];")?;
    Ok(out)
}

/// Every number in a rule, as source code: the field's full name, the rule, the number.
fn bounds(
    pool: &DescriptorPool,
    option: &ExtensionDescriptor,
) -> Result<Vec<String>, GenerateError> {
    let mut bounds = Vec::new();
    for field in pool.all_messages().flat_map(|message| message.fields().collect::<Vec<_>>()) {
        let rules = Rules::of(&field.options(), option)?;
        for (of, rules) in [("items.", rules.items()?), ("", rules)] {
            for rule in NUMBERS {
                if let Some(bound) = rules.number(rule)? {
                    bounds.push(format!("({:?}, \"{of}{rule}\", {bound})", field.full_name()));
                }
            }
        }
    }
    Ok(bounds)
}

/// Collects the message and all of our messages inside it.
fn collect(message: MessageDescriptor, into: &mut BTreeMap<String, MessageDescriptor>) {
    if !is_ours(&message) || into.contains_key(message.full_name()) {
        return;
    }
    into.insert(message.full_name().to_owned(), message.clone());
    for field in message.fields() {
        if let Kind::Message(inner) = field.kind() {
            collect(inner, into);
        }
    }
}

fn is_ours(message: &MessageDescriptor) -> bool {
    message.package_name().starts_with("chatto.")
}

impl Generator {
    fn field(&mut self, field: &FieldDescriptor, out: &mut String) -> Result<(), GenerateError> {
        let rules = Rules::of(&field.options(), &self.option)?;
        let kind = field.kind();
        let name = field.name();
        let member = if KEYWORDS.contains(&name) { format!("r#{name}") } else { name.to_owned() };
        let nested = matches!(&kind, Kind::Message(inner) if is_ours(inner));
        if rules.is_empty() && !nested {
            return Ok(());
        }
        if field.is_map() {
            return Err("rules and nested messages in maps are not supported".into());
        }
        if field.is_list() {
            return self.list(field, &rules, &member, out);
        }
        let mut checks = self.value_checks(&rules, &kind, name)?;
        if nested {
            checks.push(format!("value.validate().map_err(|v| v.inside({name:?}))"));
        }
        if checks.is_empty() {
            return Ok(());
        }
        let open = match field.containing_oneof() {
            Some(oneof) if !oneof.is_synthetic() => format!(
                "if let Some({}::{}::{}(value)) = &self.{} {{",
                module_of(field.parent_message()),
                oneof.name().to_upper_camel_case(),
                name.to_upper_camel_case(),
                oneof.name(),
            ),
            _ if field.supports_presence() => format!("if let Some(value) = &self.{member} {{"),
            _ => format!("{{ let value = &self.{member};"),
        };
        writeln!(out, "        {open}")?;
        for check in checks {
            writeln!(out, "            {check}?;")?;
        }
        writeln!(out, "        }}")?;
        Ok(())
    }

    fn list(
        &mut self,
        field: &FieldDescriptor,
        rules: &Rules,
        member: &str,
        out: &mut String,
    ) -> Result<(), GenerateError> {
        rules.only(&["min_items", "max_items", "items"])?;
        let (name, kind) = (field.name(), field.kind());
        for rule in ["min_items", "max_items"] {
            if let Some(bound) = rules.number(rule)? {
                writeln!(out, "        check::{rule}({name:?}, self.{member}.len(), {bound})?;")?;
            }
        }
        let checks = self.value_checks(&rules.items()?, &kind, name)?;
        let nested = matches!(&kind, Kind::Message(inner) if is_ours(inner));
        if checks.is_empty() && !nested {
            return Ok(());
        }
        writeln!(out, "        for (position, value) in self.{member}.iter().enumerate() {{")?;
        for check in checks {
            writeln!(out, "            {check}.map_err(|v| v.at(position))?;")?;
        }
        if nested {
            let within = format!("v.inside_item({name:?}, position)");
            writeln!(out, "            value.validate().map_err(|v| {within})?;")?;
        }
        writeln!(out, "        }}")?;
        Ok(())
    }

    /// The calls of `check::…` for one value, where `value` is a reference to it.
    fn value_checks(
        &mut self,
        rules: &Rules,
        kind: &Kind,
        name: &str,
    ) -> Result<Vec<String>, GenerateError> {
        let mut checks = Vec::new();
        let allowed: &[&str] = match kind {
            Kind::String => &["min_len", "max_len", "min_bytes", "max_bytes", "pattern"],
            Kind::Bytes => &["min_len", "max_len"],
            Kind::Enum(_) => &["defined_only", "not_in"],
            Kind::Int32 | Kind::Int64 | Kind::Uint32 => &["gte", "lte"],
            _ => &[],
        };
        rules.only(allowed)?;
        let bytes = matches!(kind, Kind::Bytes);
        for (rule, check) in [
            ("min_len", if bytes { "min_bytes" } else { "min_chars" }),
            ("max_len", if bytes { "max_bytes" } else { "max_chars" }),
            ("min_bytes", "min_bytes"),
            ("max_bytes", "max_bytes"),
            ("gte", "at_least"),
            ("lte", "at_most"),
        ] {
            if let Some(bound) = rules.number(rule)? {
                let value = match check {
                    "at_least" | "at_most" => "i64::from(*value)",
                    "min_bytes" | "max_bytes" => "value.len()",
                    _ => "value",
                };
                checks.push(format!("check::{check}({name:?}, {value}, {bound})"));
            }
        }
        if let Some(source) = rules.text("pattern")? {
            let position = self.patterns.iter().position(|known| *known == source);
            let position = position.unwrap_or_else(|| {
                self.patterns.push(source);
                self.patterns.len() - 1
            });
            checks.push(format!("check::matches({name:?}, value, &PATTERN_{position})"));
        }
        if let Kind::Enum(declared) = kind {
            if rules.flag("defined_only")? {
                let path = rust_path(declared.full_name());
                checks.push(format!("check::defined({name:?}, {path}::is_valid(*value))"));
            }
            if let Some(refused) = rules.numbers("not_in")? {
                checks.push(format!("check::not_in({name:?}, *value, &{refused:?})"));
            }
        }
        Ok(checks)
    }
}

/// prost puts the oneofs of `GetUserRequest` into a module `get_user_request`.
fn module_of(message: &MessageDescriptor) -> String {
    let path = message.package_name().replace('.', "::");
    format!("{path}::{}", message.name().to_snake_case())
}

/// The `FieldRules` that are set; a rule that is false or empty counts as not set.
struct Rules(Option<DynamicMessage>);

impl Rules {
    fn of(options: &DynamicMessage, option: &ExtensionDescriptor) -> Result<Self, GenerateError> {
        if !options.has_extension(option) {
            return Ok(Self(None));
        }
        match options.get_extension(option).into_owned() {
            Value::Message(rules) => Ok(Self(Some(rules))),
            other => Err(format!("unexpected option value {other:?}").into()),
        }
    }

    fn items(&self) -> Result<Self, GenerateError> {
        match self.value("items") {
            None => Ok(Self(None)),
            Some(Value::Message(rules)) => Ok(Self(Some(rules))),
            Some(other) => Err(format!("items is {other:?}").into()),
        }
    }

    fn is_empty(&self) -> bool {
        self.names().is_empty()
    }

    fn names(&self) -> Vec<String> {
        let fields = self.0.iter().flat_map(DynamicMessage::fields);
        fields.map(|(field, _)| field.name().to_owned()).collect()
    }

    /// A rule that does not apply to the type of the field is a mistake in the `.proto` file.
    fn only(&self, allowed: &[&str]) -> Result<(), GenerateError> {
        match self.names().iter().find(|name| !allowed.contains(&name.as_str())) {
            None => Ok(()),
            Some(name) => Err(format!("rule {name} does not apply to the type").into()),
        }
    }

    fn value(&self, name: &str) -> Option<Value> {
        let rules = self.0.as_ref()?;
        if rules.has_field_by_name(name) {
            Some(rules.get_field_by_name(name)?.into_owned())
        } else {
            None
        }
    }

    fn number(&self, name: &str) -> Result<Option<i128>, GenerateError> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::U64(number)) => Ok(Some(number.into())),
            Some(Value::I64(number)) => Ok(Some(number.into())),
            Some(other) => Err(format!("{name} is {other:?}").into()),
        }
    }

    fn text(&self, name: &str) -> Result<Option<String>, GenerateError> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(format!("{name} is {other:?}").into()),
        }
    }

    fn flag(&self, name: &str) -> Result<bool, GenerateError> {
        match self.value(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(other) => Err(format!("{name} is {other:?}").into()),
        }
    }

    fn numbers(&self, name: &str) -> Result<Option<Vec<i32>>, GenerateError> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::List(list)) => list
                .iter()
                .map(|value| value.as_i32().ok_or_else(|| format!("{name} has {value:?}").into()))
                .collect::<Result<Vec<_>, GenerateError>>()
                .map(Some),
            Some(other) => Err(format!("{name} is {other:?}").into()),
        }
    }
}

/// Field names that prost writes as raw identifiers.
const KEYWORDS: [&str; 4] = ["type", "override", "ref", "match"];
