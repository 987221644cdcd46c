//! `limit`, `marker`, `sort_key` and `sort_dir`: a long list in pages.
//!
//! A marker is a position: a page begins with what follows it, also when the item that it was taken from
//! has gone, or no longer matches the filter. In an order by id, a marker is an id; in another order it is
//! what a `next` link gives, or the id of an item of the list (docs/decisions/0019).
//!
//! Source: Nova, `nova/api/openstack/common.py`, `get_limit_and_marker` and `_get_collection_links`.
//! Unlike there, a `next` link is given exactly when there is more, and its values are encoded.

use std::{
    borrow::Borrow,
    cmp::Ordering,
    ops::Bound::{Excluded, Unbounded},
    sync::Arc,
};

use pileus_model::{Name, OrdMap};
use serde::{Serialize, Serializer, ser::SerializeMap};

use crate::{
    Call, Fault, Reply, json,
    order::{Column, Direction, Order, Position, SortValue, token},
    query::{QueryParam, Values},
};

/// Most members of one page. Source: Nova, `osapi_max_limit`.
pub const MAX_LIMIT: usize = 1000;

/// Longest id in a marker, in bytes: no object has a longer name.
const ID_MAX: usize = 255;

/// The query parameters of a list that can be sorted by these words.
pub fn list_params(sort_keys: Vec<&'static str>) -> [QueryParam; 4] {
    let repeated =
        |name, words, about| QueryParam { name, values: Values::Word(words), repeats: true, about };
    [
        QueryParam::new("limit", Values::Integer, "Most members of the page, 1000 at most"),
        QueryParam::new("marker", Values::Text, "Position that the page follows"),
        repeated("sort_key", sort_keys, "Member to sort by; further ones decide between equals"),
        repeated("sort_dir", Direction::WORDS.to_vec(), "Direction of the sort key of the same place"),
    ]
}

/// Part of a list that a call asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    limit: usize,
    marker: Option<String>,
    keys: Vec<String>,
    directions: Vec<Direction>,
}

/// A page, cut out of its list.
#[derive(Debug, Clone)]
pub struct Cut<T> {
    /// Its members.
    pub items: Vec<T>,
    /// The marker of the page after it; `None`: it is the last.
    pub next: Option<String>,
}

impl<T> Cut<T> {
    /// The same page with members of another form.
    pub fn map<U>(self, form: impl FnMut(T) -> U) -> Cut<U> {
        Cut { items: self.items.into_iter().map(form).collect(), next: self.next }
    }
}

impl Page {
    /// Reads `limit` (at most [`MAX_LIMIT`], which is also the default; 0 asks for none), `marker`,
    /// `sort_key` and `sort_dir`. 400 for a limit that is no number or is negative, for a marker that no
    /// list can give, and for more directions than keys.
    pub fn of(call: &Call) -> Result<Self, Fault> {
        let query = call.query();
        let limit = match query.get("limit").map(str::parse::<i128>) {
            None => MAX_LIMIT,
            Some(Err(_)) => return Err(Fault::BadRequest("limit param must be an integer".into())),
            Some(Ok(limit)) if limit < 0 => {
                return Err(Fault::BadRequest("limit param must be positive".into()));
            }
            Some(Ok(limit)) => usize::try_from(limit).unwrap_or(MAX_LIMIT).min(MAX_LIMIT),
        };
        let marker = query.get("marker").map(str::to_owned);
        if marker.as_deref().is_some_and(|marker| marker.is_empty() || marker.contains('\0')) {
            return Err(malformed());
        }
        let mut keys: Vec<String> = Vec::new();
        for key in query.all("sort_key") {
            if keys.iter().any(|known| known == key) {
                return Err(Fault::BadRequest(format!("sort_key param must not name `{key}` twice")));
            }
            keys.push(key.to_owned());
        }
        let directions: Vec<_> = query.all("sort_dir").map(Direction::from_word).collect();
        // One direction alone turns the list's own order.
        if directions.len() > keys.len().max(1) {
            return Err(Fault::BadRequest(
                "sort_dir param must not be given more often than sort_key".into(),
            ));
        }
        Ok(Self { limit, marker, keys, directions })
    }

    /// Most members of it.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// The marker, as it was sent.
    pub fn marker(&self) -> Option<&str> {
        self.marker.as_deref()
    }

    /// `true` if the list's own order is to be turned, or that of its first sort key.
    pub fn is_descending(&self) -> bool {
        self.directions.first() == Some(&Direction::Descending)
    }

    /// Cuts from a map in the order of its keys: of the items that the caller `sees`, those that it
    /// `wants`. The first of `columns` is the map's key. In the order of the keys a page costs nothing for
    /// the items before it.
    pub fn of_map<'a, T>(
        &self,
        map: &'a OrdMap<Name, Arc<T>>,
        columns: &[Column<T>],
        sees: impl Fn(&T) -> bool,
        wants: impl Fn(&T) -> bool,
    ) -> Result<Cut<&'a Arc<T>>, Fault> {
        let order = self.order(columns, &[])?;
        let Some(direction) = order.by_id() else {
            let items = map.values().filter(|item| sees(item)).collect();
            return self.sorted(&order, items, |item| item, wants);
        };
        let marker = self.id_marker()?;
        let shown = |(_, item): &(&Name, &Arc<T>)| sees(item) && wants(item);
        let cut = match direction {
            Direction::Ascending => {
                let start = marker.map_or(Unbounded, Excluded);
                self.take(map.range::<_, str>((start, Unbounded)).filter(shown))
            }
            Direction::Descending => {
                let end = marker.map_or(Unbounded, Excluded);
                self.take(map.range::<_, str>((Unbounded, end)).rev().filter(shown))
            }
        };
        Ok(cut.map(|(_, item)| item))
    }

    /// Cuts from all items that the caller sees. The first of `columns` is the id. `own` is the list's own
    /// order, before the id; it need not be one of `columns`.
    pub fn of_list<I: Borrow<T>, T>(
        &self,
        items: impl IntoIterator<Item = I>,
        columns: &[Column<T>],
        own: &[Column<T>],
    ) -> Result<Cut<I>, Fault> {
        self.sorted(&self.order(columns, own)?, items.into_iter().collect(), I::borrow, |_| true)
    }

    fn order<T: ?Sized>(&self, columns: &[Column<T>], own: &[Column<T>]) -> Result<Order<T>, Fault> {
        let id = columns.first().ok_or_else(|| Fault::internal("a list without a column"))?;
        let direction = |at: usize| self.directions.get(at).copied().unwrap_or_default();
        let keys: Vec<_> = if self.keys.is_empty() {
            own.iter().chain([id]).map(|column| (*column, direction(0))).collect()
        } else {
            let column = |key: &String| columns.iter().find(|column| column.name == key);
            let keys = self.keys.iter().enumerate();
            keys.filter_map(|(at, key)| Some((*column(key)?, direction(at)))).collect()
        };
        Ok(Order::new(keys, *id))
    }

    /// The marker as an id.
    fn id_marker(&self) -> Result<Option<&str>, Fault> {
        match self.marker() {
            Some(marker) if marker.len() > ID_MAX => Err(malformed()),
            marker => Ok(marker),
        }
    }

    fn sorted<I, T: ?Sized>(
        &self,
        order: &Order<T>,
        mut items: Vec<I>,
        item: impl Fn(&I) -> &T,
        wants: impl Fn(&T) -> bool,
    ) -> Result<Cut<I>, Fault> {
        let position = self.position(order, &items, &item)?;
        if let (Some(position), Some(first)) = (&position, items.first())
            && !order.fits(position, item(first))
        {
            return Err(malformed());
        }
        let follows = |it: &T| {
            position.as_ref().is_none_or(|position| order.compare_to(it, position) == Ordering::Greater)
        };
        items.retain(|it| follows(item(it)) && wants(item(it)));
        let compare = |one: &I, other: &I| order.compare(item(one), item(other));
        if items.len() > self.limit + 1 {
            items.select_nth_unstable_by(self.limit, compare);
            items.truncate(self.limit + 1);
        }
        items.sort_unstable_by(compare);
        let more = items.len() > self.limit;
        items.truncate(self.limit);
        let next = match items.last().filter(|_| more).map(|last| order.position(item(last))) {
            None => None,
            Some(position) => match (&position[..], order.by_id()) {
                ([SortValue::Text(id)], Some(_)) => Some(id.to_string()),
                _ => Some(token(&position)?),
            },
        };
        Ok(Cut { items, next })
    }

    /// The position that the marker names. An id that no item has stands before the first, so that a page
    /// leaves nothing out.
    fn position<I, T: ?Sized>(
        &self,
        order: &Order<T>,
        items: &[I],
        item: impl Fn(&I) -> &T,
    ) -> Result<Option<Position>, Fault> {
        let Some(marker) = self.marker() else { return Ok(None) };
        if order.by_id().is_some() {
            return Ok(self.id_marker()?.map(|id| vec![SortValue::Text(id.to_owned().into())]));
        }
        if marker.starts_with('[') {
            return order.parse(marker).ok_or_else(malformed).map(Some);
        }
        let id = SortValue::text(self.id_marker()?.unwrap_or_default());
        let named = items.iter().map(|it| order.position(item(it)));
        Ok(named.into_iter().find(|position| position.last() == Some(&id)))
    }

    fn take<'a, T: 'a>(&self, mut rest: impl Iterator<Item = (&'a Name, T)>) -> Cut<(&'a Name, T)> {
        let items: Vec<_> = rest.by_ref().take(self.limit).collect();
        let more = !items.is_empty() && rest.next().is_some();
        let next = items.last().filter(|_| more).map(|(id, _)| id.to_string());
        Cut { items, next }
    }
}

#[cold]
fn malformed() -> Fault {
    let help = "it is the id of a member, or what a `next` link gives for the same sort keys";
    Fault::BadRequest(format!("marker param is malformed: {help}"))
}

impl<T: Serialize> Cut<T> {
    /// `{"vms": […], "vms_links": [{"rel": "next", "href": "…"}]}`; the links where there is more.
    pub fn reply(&self, call: &Call, key: &'static str) -> Result<Reply, Fault> {
        let next = self.next.as_deref().map(|marker| next_link(call, "marker", marker));
        Reply::ok(&Listing { key, items: &self.items, next })
    }
}

/// The URL of the same call with another value of one parameter.
pub fn next_link(call: &Call, name: &str, value: &str) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (name, value) in call.query().iter().filter(|(other, _)| *other != name) {
        query.append_pair(name, value);
    }
    format!("{}{}?{}", call.origin(), call.path(), query.append_pair(name, value).finish())
}

struct Listing<'a, T> {
    key: &'static str,
    items: &'a [T],
    next: Option<String>,
}

impl<T: Serialize> Serialize for Listing<'_, T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(Some(1 + usize::from(self.next.is_some())))?;
        map.serialize_entry(self.key, self.items)?;
        if let Some(href) = &self.next {
            map.serialize_entry(&format!("{}_links", self.key), &[json!({ "rel": "next", "href": href })])?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Thing in a list: an id, a group, and `true` if it is wanted.
    #[derive(Debug, Clone, PartialEq)]
    struct Thing(&'static str, Option<i64>, bool);

    const ID: Column<Thing> = Column::id("id", |it| SortValue::text(it.0));
    const GROUP: Column<Thing> = Column::new("group", |it| SortValue::number_or_absent(it.1));

    fn map(gone: &[&str]) -> OrdMap<Name, Arc<Thing>> {
        let all = [("a", Some(2)), ("b", Some(1)), ("c", None), ("d", Some(1)), ("e", Some(2)), ("f", None)];
        let kept = all.into_iter().filter(|(id, _)| !gone.contains(id));
        kept.map(|(id, group)| (Name::from(id), Arc::new(Thing(id, group, id != "f")))).collect()
    }

    fn page(limit: usize, marker: Option<&str>, keys: &[&str], directions: &str) -> Page {
        Page {
            limit,
            marker: marker.map(str::to_owned),
            keys: keys.iter().map(|&key| key.to_owned()).collect(),
            directions: directions.split_whitespace().map(Direction::from_word).collect(),
        }
    }

    /// Ids of a page, cut from a map and, with the same outcome, from a list.
    fn cut(page: &Page, map: &OrdMap<Name, Arc<Thing>>) -> Result<(String, Option<String>), String> {
        let columns = [ID, GROUP];
        let text = |cut: Result<Cut<&Thing>, Fault>| {
            let cut = cut.map_err(|fault| fault.to_string())?;
            Ok((cut.items.iter().map(|it| it.0).collect::<String>(), cut.next))
        };
        let from_map = page.of_map(map, &columns, |_| true, |it| it.2);
        let from_map = text(from_map.map(|cut| cut.map(|it| &**it)));
        let list: Vec<Thing> = map.values().filter(|it| it.2).map(|it| (**it).clone()).collect();
        let from_list = page.of_list(list, &columns, &[]);
        let from_list = from_list.map(|cut| (cut.items.iter().map(|it| it.0).collect::<String>(), cut.next));
        assert_eq!(from_map, from_list.map_err(|fault| fault.to_string()), "{page:?}");
        from_map
    }

    #[test]
    fn pages_follow_one_another_in_every_order() {
        let orders: [(&[&str], &str, &str); 8] = [
            (&[], "", "abcde"),
            (&[], "desc", "edcba"),
            (&["id"], "asc", "abcde"),
            (&["id"], "desc", "edcba"),
            (&["group"], "", "cbdae"),
            (&["group"], "desc", "eadbc"),
            (&["group", "id"], "asc desc", "cdbea"),
            (&["group", "id"], "desc asc", "aebdc"),
        ];
        for (keys, directions, expected) in orders {
            for limit in 1..7 {
                // Once as it is, and once with the last item of each page gone before the next is asked for.
                for vanish in [false, true] {
                    let (mut marker, mut found, mut gone) = (None, String::new(), Vec::new());
                    loop {
                        let page = page(limit, marker.as_deref(), keys, directions);
                        let (ids, next) = cut(&page, &map(&gone)).unwrap();
                        found += &ids;
                        assert!(next.is_some() || found.len() == 5, "{page:?}: {ids}");
                        let Some(next) = next else { break };
                        if vanish {
                            gone.push(&expected[found.len() - 1..found.len()]);
                        }
                        marker = Some(next);
                    }
                    assert_eq!(found, expected, "{keys:?} {directions} {limit} {vanish}");
                }
            }
            assert_eq!(cut(&page(0, None, keys, directions), &map(&[])), Ok((String::new(), None)));
        }
    }

    /// Ids of a page, or the message of a fault.
    type Outcome = Result<String, String>;

    #[test]
    fn a_marker_is_a_position() {
        let malformed = || Err(malformed().to_string());
        let found = |ids: &str| Ok(ids.to_owned());
        let long = "x".repeat(256);
        let cases: &[(&str, &[&str], &str, Outcome)] = &[
            ("b", &[], "", found("cde")),
            ("bb", &[], "", found("cde")),
            ("zz", &[], "", found("")),
            ("bb", &[], "desc", found("ba")),
            ("f", &[], "desc", found("edcba")), // no longer matches the filter
            ("[x", &[], "", found("abcde")),    // an id like any other
            (&long, &[], "", malformed()),
            ("d", &["group"], "", found("ae")),
            ("[1,\"bb\"]", &["group"], "", found("dae")),
            ("[null,\"zz\"]", &["group"], "", found("bdae")),
            ("gone", &["group"], "", found("cbdae")), // nothing is left out
            ("[1]", &["group"], "", malformed()),
            ("[1,2]", &["group"], "", malformed()),
            ("[\"x\",\"b\"]", &["group"], "", malformed()),
            ("[1,\"b\",2]", &["group"], "", malformed()),
            ("[[],\"b\"]", &["group"], "", malformed()),
            ("[1.5,\"b\"]", &["group"], "", malformed()),
            ("[", &["group"], "", malformed()),
            (&long, &["group"], "", malformed()),
        ];
        for (marker, keys, directions, expected) in cases {
            let page = page(9, Some(marker), keys, directions);
            assert_eq!(cut(&page, &map(&[])).map(|(ids, _)| ids), *expected, "{page:?}");
        }
    }
}
