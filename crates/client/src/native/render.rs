//! Tables for people: aligned, numbers on the right, and no character that could move a cursor.

use comfy_table::{CellAlignment, ContentArrangement, Row, Table, presets::NOTHING};
use serde_json::Value;

/// One column: its title, and where its value stands (`used.vm_slots`).
pub type Column = (&'static str, &'static str);

/// A table of members, one a row.
pub fn table(columns: &[Column], members: &[Value]) -> String {
    let rows = members.iter().map(|member| columns.iter().map(|(_, path)| at(member, path)).collect());
    let right = |index: usize| {
        columns.get(index).is_some_and(|(_, path)| {
            let mut values = members.iter().map(|member| find(member, path)).filter(|value| !value.is_null());
            values.clone().next().is_some() && values.all(Value::is_number)
        })
    };
    let titles: Vec<&str> = columns.iter().map(|(title, _)| *title).collect();
    grid(&titles, rows, right)
}

/// A table of rows, whose columns in `right` are numbers.
pub fn grid(
    titles: &[&str],
    rows: impl Iterator<Item = Vec<String>>,
    right: impl Fn(usize) -> bool,
) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(titles.iter().copied());
    table.add_rows(rows.map(Row::from));
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if right(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt()
}

/// A member's fields, one a line; what is nested has a dotted name, links are left out.
pub fn fields(member: &Value) -> String {
    let mut rows = Vec::new();
    flatten("", member, &mut rows);
    grid(&["FIELD", "VALUE"], rows.into_iter(), |_| false)
}

fn flatten(name: &str, value: &Value, rows: &mut Vec<Vec<String>>) {
    match value {
        Value::Object(fields) => {
            for (field, value) in fields.iter().filter(|(field, _)| *field != "links") {
                let name = if name.is_empty() { field.clone() } else { format!("{name}.{field}") };
                flatten(&name, value, rows);
            }
        }
        value => rows.push(vec![clean(name), shown(value)]),
    }
}

/// The value at `a.b` of a member.
fn at(member: &Value, path: &str) -> String {
    shown(find(member, path))
}

fn find<'a>(member: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(member, |value, field| &value[field])
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) if text.is_empty() => "-".into(),
        Value::String(text) => clean(text),
        Value::Bool(true) => "yes".into(),
        Value::Bool(false) => "no".into(),
        Value::Array(items) if items.is_empty() => "-".into(),
        Value::Array(items) => items.iter().map(shown).collect::<Vec<_>>().join(" "),
        other => clean(&other.to_string()),
    }
}

/// Text without control characters: names come from others.
pub fn clean(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn columns_are_aligned_and_numbers_stand_on_the_right() {
        let members = [
            json!({"name": "alpha", "used": {"n": 3}, "enabled": true, "mixed": 1}),
            json!({"name": "be\u{1b}[2Jta", "used": {"n": 12}, "enabled": false, "mixed": "x"}),
            json!({"name": "", "used": {"n": null}, "enabled": null}),
        ];
        let columns = [("NAME", "name"), ("USED", "used.n"), ("ENABLED", "enabled"), ("MIXED", "mixed")];
        let expected = "\
NAME      USED  ENABLED  MIXED
alpha        3  yes      1
be\u{fffd}[2Jta    12  no       x
-            -  -        -";
        assert_eq!(table(&columns, &members), expected);
    }

    #[test]
    fn a_member_is_a_list_of_fields() {
        let member = json!({"id": "a", "spec": {"n": 1, "list": ["x", "y"]}, "links": [{"rel": "self"}]});
        assert_eq!(fields(&member), "FIELD      VALUE\nid         a\nspec.list  x y\nspec.n     1");
    }
}
