// embed(text [, role]) and qkv_model([name]): sentences to vectors in SQL. The encoder is opened when embed is first called.
#include <memory>
#include <optional>
#include <stdexcept>

#include "models/model_path.h"
#include "models/sentence_encoder.h"
#include "sql/sqlite/values.h"

namespace qkv::sql {
namespace {

using models::SentenceEncoder;
using models::TextRole;

// Of one connection.
struct Embedder {
  std::string model = "search-en-zh";
  std::optional<SentenceEncoder> encoder;
  // The last answer: a query inside of an aggregate is asked for once a row.
  std::string text;
  TextRole role = TextRole::plain;
  std::vector<float> vector;

  void open(const std::string& name) {
    encoder = SentenceEncoder::load(models::find_model(name));
    model = name;
    vector.clear();
  }
};

Embedder& embedder_of(sqlite3_context* context) {
  return **static_cast<std::shared_ptr<Embedder>*>(sqlite3_user_data(context));
}

TextRole role_of(sqlite3_value* value) {
  const std::string_view name =
      sqlite3_value_type(value) == SQLITE_TEXT ? text_of(value) : std::string_view();
  if (name == "query") return TextRole::query;
  if (name == "document") return TextRole::document;
  throw std::invalid_argument("role: expected 'query' or 'document'");
}

// text → BLOB of float32
void embed_function(sqlite3_context* context, int count, sqlite3_value** values) {
  guarded(context, "embed", [&] {
    if (any_null(count, values)) return sqlite3_result_null(context);
    if (sqlite3_value_type(values[0]) != SQLITE_TEXT) throw std::invalid_argument("expected TEXT");
    const TextRole role = count > 1 ? role_of(values[1]) : TextRole::plain;
    Embedder& embedder = embedder_of(context);
    if (!embedder.encoder) embedder.open(embedder.model);
    const std::string_view text = text_of(values[0]);
    if (embedder.vector.empty() || embedder.text != text || embedder.role != role) {
      embedder.vector.clear();
      std::vector<float> made = embedder.encoder->embed(text, role);
      embedder.text = text;
      embedder.role = role;
      embedder.vector = std::move(made);
    }
    give_vector(context, embedder.vector);
  });
}

// Opens another encoder for this connection; says which one embed uses.
void model_function(sqlite3_context* context, int count, sqlite3_value** values) {
  guarded(context, "qkv_model", [&] {
    Embedder& embedder = embedder_of(context);
    if (count > 0) {
      if (sqlite3_value_type(values[0]) != SQLITE_TEXT)
        throw std::invalid_argument("expected a folder, or a bundled model's name");
      embedder.open(std::string(text_of(values[0])));
    }
    give_text(context, embedder.model);
  });
}

}  // namespace

int register_embed(sqlite3* db) {
  const auto embedder = std::make_shared<Embedder>();
  const auto add = [&](const char* name, int count, int flags,
                       void (*f)(sqlite3_context*, int, sqlite3_value**)) {
    return sqlite3_create_function_v2(
        db, name, count, SQLITE_UTF8 | flags, new std::shared_ptr<Embedder>(embedder), f, nullptr,
        nullptr, [](void* held) { delete static_cast<std::shared_ptr<Embedder>*>(held); });
  };
  // Not deterministic: the model may change. What opens files that it is told to is not for views and triggers.
  int status = add("embed", 1, 0, embed_function);
  if (status == SQLITE_OK) status = add("embed", 2, 0, embed_function);
  if (status == SQLITE_OK) status = add("qkv_model", 0, 0, model_function);
  if (status == SQLITE_OK) status = add("qkv_model", 1, SQLITE_DIRECTONLY, model_function);
  return status;
}

}  // namespace qkv::sql
