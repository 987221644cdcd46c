//! `limit` and `marker`: a long list in pages.
//!
//! Source: Nova, `nova/api/openstack/common.py`, `get_limit_and_marker` and `_get_collection_links`.
//! Unlike there, a `next` link is given exactly when there is more, and its values are encoded.

use std::{ops::Bound, sync::Arc};

use pileus_model::{Name, OrdMap};
use serde::{Serialize, Serializer, ser::SerializeMap};

use crate::{Call, Fault, Reply, json};

/// Most members of one page. Source: Nova, `osapi_max_limit`.
pub const MAX_LIMIT: usize = 1000;

/// Which part of a list a call asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    limit: usize,
    marker: Option<String>,
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
    /// From `limit` (members, at most [`MAX_LIMIT`], which is also the default; 0 asks for none) and
    /// `marker` (the id of the last member seen). 400 for a limit that is no number or is negative.
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
        Ok(Self { limit, marker: query.get("marker").map(str::to_owned) })
    }

    /// Most members of it.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Cuts from a map in the order of its keys, what `seen` lets through. Steps over everything
    /// before the marker at once. 400 for a marker that names nothing that is seen.
    pub fn of_map<'a, T: ?Sized>(
        &self,
        map: &'a OrdMap<Name, Arc<T>>,
        seen: impl Fn(&T) -> bool,
    ) -> Result<Cut<&'a Arc<T>>, Fault> {
        let start = match self.marker.as_deref() {
            None => Bound::Unbounded,
            Some(marker) if map.get(marker).is_some_and(|item| seen(item)) => Bound::Excluded(marker),
            Some(marker) => return Err(lost(marker)),
        };
        let items = map.range::<(Bound<&str>, Bound<&str>), str>((start, Bound::Unbounded));
        let cut = self.take(items.filter(|(_, item)| seen(item)), |(id, _)| id);
        Ok(cut.map(|(_, item)| item))
    }

    /// Cuts from a list in its own order. 400 for a marker that is in none of its `id`s.
    pub fn of_list<T>(
        &self,
        items: impl IntoIterator<Item = T>,
        id: impl Fn(&T) -> &str,
    ) -> Result<Cut<T>, Fault> {
        let mut items = items.into_iter();
        if let Some(marker) = &self.marker {
            items.find(|item| id(item) == marker).ok_or_else(|| lost(marker))?;
        }
        Ok(self.take(items, id))
    }

    fn take<T>(&self, mut rest: impl Iterator<Item = T>, id: impl Fn(&T) -> &str) -> Cut<T> {
        let items: Vec<T> = rest.by_ref().take(self.limit).collect();
        let more = !items.is_empty() && rest.next().is_some();
        let next = items.last().filter(|_| more).map(|last| id(last).to_owned());
        Cut { items, next }
    }
}

fn lost(marker: &str) -> Fault {
    Fault::BadRequest(format!("marker [{marker}] not found"))
}

impl<T: Serialize> Cut<T> {
    /// `{"vms": […], "vms_links": [{"rel": "next", "href": "…"}]}`; the links where there is more.
    pub fn reply(&self, call: &Call, key: &'static str) -> Result<Reply, Fault> {
        let next = self.next.as_deref().map(|marker| {
            let mut query = form_urlencoded::Serializer::new(String::new());
            for (name, value) in call.query().iter().filter(|(name, _)| *name != "marker") {
                query.append_pair(name, value);
            }
            format!("{}{}?{}", call.origin(), call.path(), query.append_pair("marker", marker).finish())
        });
        Reply::ok(&Listing { key, items: &self.items, next })
    }
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

    fn page(limit: usize, marker: Option<&str>) -> Page {
        Page { limit, marker: marker.map(str::to_owned) }
    }

    /// The same cuts from a map and from a list: what is hidden ends no page early, and gives no `next`.
    #[test]
    fn a_next_page_is_promised_exactly_when_there_is_one() {
        let map: OrdMap<Name, Arc<bool>> =
            [("a", true), ("b", false), ("c", true), ("d", true), ("e", false)]
                .into_iter()
                .map(|(name, seen)| (Name::from(name), Arc::new(seen)))
                .collect();
        // limit, marker, what comes, the next marker
        let cases = [
            (9, None, 3, None),
            (3, None, 3, None),
            (2, None, 2, Some("c")),
            (1, None, 1, Some("a")),
            (1, Some("a"), 1, Some("c")),
            (1, Some("c"), 1, None),
            (1, Some("d"), 0, None),
            (0, None, 0, None),
        ];
        for (limit, marker, count, next) in cases {
            let page = page(limit, marker);
            let from_map = page.of_map(&map, |seen| *seen).unwrap();
            assert_eq!((from_map.items.len(), from_map.next.as_deref()), (count, next), "{page:?}");
            let list = map.iter().filter(|(_, seen)| ***seen).map(|(name, _)| name);
            let from_list = page.of_list(list, |name| name).unwrap();
            assert_eq!((from_list.items.len(), from_list.next.as_deref()), (count, next), "{page:?}");
        }
        for hidden in ["b", "e", "x", ""] {
            let page = page(1, Some(hidden));
            let fault = page.of_map(&map, |seen| *seen).unwrap_err();
            assert_eq!(fault.to_string(), format!("marker [{hidden}] not found"));
        }
    }
}
