//! The OpenAPI document, built from the same table as the routes: neither can miss what the other has.

use serde_json::{Map, Value, json};

use crate::control::{Field, Kind, Operation, operations};

pub(crate) fn document() -> Value {
    let mut paths = Map::new();
    for operation in operations() {
        let path = paths.entry(operation.path).or_insert_with(|| json!({}));
        path[operation.method] = describe(operation);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "wechatpay-sandbox control port",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Plays everybody but the merchant: members, shops, the reviewer, the weather. Test data only.",
        },
        "paths": paths,
    })
}

fn describe(operation: &Operation) -> Value {
    let in_query = operation.method == "get";
    let variables = operation.path.split('/').filter_map(|segment| {
        let name = segment.strip_prefix('{')?.strip_suffix('}')?;
        Some(json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }))
    });
    let query = operation.fields.iter().filter(|_| in_query).map(|field| {
        json!({
            "name": field.name,
            "in": "query",
            "required": field.required,
            "description": field.about,
            "schema": schema(field.kind),
        })
    });
    let parameters: Vec<Value> = variables.chain(query).collect();
    let mut described = json!({
        "summary": operation.summary,
        "operationId": operation_id(operation),
        "parameters": parameters,
        "responses": {
            "200": { "description": "done", "content": { "application/json": {} } },
            "default": { "description": "why not", "content": { "application/problem+json": {} } },
        },
    });
    if !in_query && !operation.fields.is_empty() {
        described["requestBody"] = json!({
            "required": operation.fields.iter().any(|field| field.required),
            "content": { "application/json": { "schema": object(operation.fields) } },
        });
    }
    described
}

fn object(fields: &[Field]) -> Value {
    let properties: Map<String, Value> = fields
        .iter()
        .map(|field| {
            let mut schema = schema(field.kind);
            schema["description"] = field.about.into();
            (field.name.to_owned(), schema)
        })
        .collect();
    let required: Vec<&str> = fields
        .iter()
        .filter(|field| field.required)
        .map(|field| field.name)
        .collect();
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
}

fn schema(kind: Kind) -> Value {
    match kind {
        Kind::Text => json!({ "type": "string" }),
        Kind::Number => json!({ "type": "number" }),
        Kind::Whole => json!({ "type": "integer" }),
        Kind::Truth => json!({ "type": "boolean" }),
        Kind::Word(words) => json!({ "type": "string", "enum": words }),
    }
}

/// `post /v1/payments/{transaction_id}/refund` → `post_payments_refund`.
fn operation_id(operation: &Operation) -> String {
    let words = operation
        .path
        .split('/')
        .filter(|segment| !segment.is_empty() && *segment != "v1" && !segment.starts_with('{'));
    let words: Vec<String> = words.map(|word| word.replace('-', "_")).collect();
    let one = if operation.path.ends_with('}') { "_one" } else { "" };
    format!("{}_{}{one}", operation.method, words.join("_"))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_operation_has_an_id_of_its_own() {
        let ids: Vec<String> = operations().map(operation_id).collect();

        let different: HashSet<&String> = ids.iter().collect();

        assert_eq!(different.len(), ids.len(), "{ids:?}");
    }
}
