//! The page of the schema for who writes devices: each type with what its source says of it, made of the compiled schema.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context, Result, bail};
use capnp::schema_capnp::{code_generator_request, field, node, type_, value};

use super::meaning::MESSAGE;

/// The page, from the top of the tree.
pub const PAGE: &str = "docs/devices/reference.md";

/// Files that a device has to do with, in the order in which it meets them.
const FILES: [&str; 4] = ["manifest.capnp", "host.capnp", "lane.capnp", "imc.capnp"];

const HEAD: &str = "# Reference

<!-- Made of schema/*.capnp by `cargo xtask schema`: change those. -->

What a device host says and hears, type by type; the SDKs do it for their devices. A message is a 32-byte header and one struct of
Cap'n Proto in one packet on descriptor 3; the number in brackets is its ordinal there. [The schema's folder](../../schema/README.md)
has the sources, and golden bytes of each message.
";

/// Makes the page.
pub fn page(request: &[u8]) -> Result<String> {
    let mut rest = request;
    let message = capnp::serialize::read_message_from_flat_slice_no_alloc(&mut rest, Default::default())?;
    let request: code_generator_request::Reader<'_> = message.get_root()?;
    let schema = Schema::read(request)?;
    let mut page = HEAD.to_owned();
    for file in FILES {
        let (id, root) = schema.file(file)?;
        write!(page, "\n## {file}\n\n{}", schema.said(id))?;
        for nested in root.get_nested_nodes()? {
            schema.describe(nested.get_id(), &mut page)?;
        }
    }
    Ok(page)
}

/// What the compiler made: types, and what the sources say of them and of their members.
struct Schema<'a> {
    nodes: BTreeMap<u64, node::Reader<'a>>,
    comments: BTreeMap<u64, (String, Vec<String>)>,
}

impl<'a> Schema<'a> {
    fn read(request: code_generator_request::Reader<'a>) -> Result<Schema<'a>> {
        let nodes = request.get_nodes()?.iter().map(|node| (node.get_id(), node)).collect();
        let mut comments = BTreeMap::new();
        for info in request.get_source_info()? {
            let text =
                |said: capnp::Result<capnp::text::Reader<'_>>| Ok::<_, anyhow::Error>(said?.to_str()?.to_owned());
            let members = info.get_members()?.iter().map(|member| text(member.get_doc_comment()));
            comments.insert(info.get_id(), (text(info.get_doc_comment())?, members.collect::<Result<_>>()?));
        }
        Ok(Schema { nodes, comments })
    }

    fn file(&self, name: &str) -> Result<(u64, node::Reader<'a>)> {
        for (id, node) in &self.nodes {
            if matches!(node.which()?, node::File(())) && node.get_display_name()?.to_str()? == name {
                return Ok((*id, *node));
            }
        }
        bail!("the compiled schema has no {name}")
    }

    /// What is said of a type, as a paragraph.
    fn said(&self, id: u64) -> String {
        let said = self.comments.get(&id).map_or("", |(said, _)| said.trim());
        if said.is_empty() { String::new() } else { format!("{}\n", said.replace('\n', " ")) }
    }

    /// What is said of a member, in one line that a table can hold.
    fn said_of(&self, id: u64, member: usize) -> String {
        let said = self.comments.get(&id).and_then(|(_, members)| members.get(member));
        said.map_or(String::new(), |said| said.trim().replace('\n', " ").replace('|', "\\|"))
    }

    fn describe(&self, id: u64, page: &mut String) -> Result<()> {
        let node = self.nodes.get(&id).context("a type without a node")?;
        let name = self.name(id)?;
        match node.which()? {
            node::Enum(of) => {
                write!(page, "\n### {name}\n\n{}", paragraph(&self.said(id)))?;
                page.push_str("| value | name | meaning |\n| --- | --- | --- |\n");
                for (value, one) in of.get_enumerants()?.iter().enumerate() {
                    let said = self.said_of(id, value);
                    writeln!(page, "| {value} | `{}` | {said} |", one.get_name()?.to_str()?)?;
                }
            }
            node::Struct(of) => {
                let ordinal = ordinal(*node)?.map_or(String::new(), |ordinal| format!(" ({ordinal:#04x})"));
                write!(page, "\n### {name}{ordinal}\n\n{}", paragraph(&self.said(id)))?;
                if of.get_fields()?.is_empty() {
                    page.push_str("It has no fields.\n");
                } else {
                    page.push_str("| field | type | meaning |\n| --- | --- | --- |\n");
                    self.fields(id, of, "", page)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Rows of a struct's fields, in the order of the source; those of a group stand under its name.
    fn fields(&self, id: u64, of: node::struct_::Reader<'_>, within: &str, page: &mut String) -> Result<()> {
        let mut fields: Vec<_> = of.get_fields()?.iter().enumerate().collect();
        fields.sort_by_key(|(_, field)| field.get_code_order());
        for (index, field) in fields {
            let name = format!("{within}{}", field.get_name()?.to_str()?);
            let one_of = field.get_discriminant_value() != field::NO_DISCRIMINANT;
            let mut said = self.said_of(id, index);
            if one_of {
                said = if said.is_empty() { "one of".to_owned() } else { format!("one of: {said}") };
            }
            match field.which()? {
                field::Slot(slot) => {
                    writeln!(page, "| `{name}` | {} | {said} |", self.shown(slot.get_type()?)?)?;
                }
                field::Group(group) => {
                    let id = group.get_type_id();
                    let node = self.nodes.get(&id).context("a group without a node")?;
                    let node::Struct(of) = node.which()? else { bail!("a group that is no struct") };
                    self.fields(id, of, &format!("{name}."), page)?;
                }
            }
        }
        Ok(())
    }

    /// The name of a type, without its file.
    fn name(&self, id: u64) -> Result<String> {
        let node = self.nodes.get(&id).context("a type without a node")?;
        let whole = node.get_display_name()?.to_str()?;
        Ok(whole.split_once(':').map_or(whole, |(_, name)| name).to_owned())
    }

    fn shown(&self, of: type_::Reader<'_>) -> Result<String> {
        Ok(match of.which()? {
            type_::List(list) => format!("list of {}", self.shown(list.get_element_type()?)?),
            type_::Enum(of) => self.link(of.get_type_id())?,
            type_::Struct(of) => self.link(of.get_type_id())?,
            _ => super::meaning::name_of(of)?,
        })
    }

    fn link(&self, id: u64) -> Result<String> {
        let name = self.name(id)?;
        let node = self.nodes.get(&id).context("a type without a node")?;
        let anchor = match ordinal(*node)? {
            Some(ordinal) => format!("{}-{ordinal:#04x}", name.to_lowercase()),
            None => name.to_lowercase(),
        };
        Ok(format!("[{name}](#{anchor})"))
    }
}

/// The number of a message.
fn ordinal(node: node::Reader<'_>) -> Result<Option<u16>> {
    for annotation in node.get_annotations()?.iter().filter(|annotation| annotation.get_id() == MESSAGE) {
        if let value::Uint16(ordinal) = annotation.get_value()?.which()? {
            return Ok(Some(ordinal));
        }
    }
    Ok(None)
}

fn paragraph(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!("{said}\n") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn top() -> &'static Path {
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
    }

    #[test]
    fn the_page_is_as_the_schema_says() {
        let made = page(&std::fs::read(top().join(super::super::COMPILED)).unwrap()).unwrap();
        let kept = std::fs::read_to_string(top().join(PAGE)).unwrap_or_default();
        assert!(made == kept, "{PAGE} is older than the schema: run `cargo xtask schema`");
    }

    #[test]
    fn a_type_is_shown_with_what_its_source_says() {
        let made = page(&std::fs::read(top().join(super::super::COMPILED)).unwrap()).unwrap();
        assert!(made.contains("### Access (0x60)\n"));
        assert!(made.contains("| `space.port` | UInt16 | one of: first port |"));
        assert!(made.contains("| 1 | `wake` | host-wide: the one eventfd a host sleeps on |"));
        assert!(made.contains("| `lines` | list of [Line](#line) |"));
    }
}
