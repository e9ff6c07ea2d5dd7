// attention(), softmax_avg(), logsumexp() and their kin: many rows in, one value out.
//
// SQLite calls the same step for an aggregate and for a window function, and does not say which it is until a row leaves. Rows
// are kept up to kKeep bytes in case one does; beyond, only if a running statement has the word OVER.
#include <limits>
#include <memory>
#include <optional>
#include <stdexcept>

#include "qkv/memory.h"
#include "sql/common/json.h"
#include "sql/common/rows.h"
#include "sql/sqlite/values.h"

namespace qkv::sql {
namespace {

constexpr std::size_t kKeep = 4 << 20;

bool word_over(const char* sql) {
  for (; *sql != '\0'; ++sql)
    if (sqlite3_strnicmp(sql, "over", 4) == 0) return true;
  return false;
}

bool may_be_window(sqlite3_context* context) {
  sqlite3* db = sqlite3_context_db_handle(context);
  for (sqlite3_stmt* s = sqlite3_next_stmt(db, nullptr); s != nullptr; s = sqlite3_next_stmt(db, s))
    if (const char* sql = sqlite3_sql(s);
        sqlite3_stmt_busy(s) != 0 && sql != nullptr && word_over(sql))
      return true;
  return false;
}

// How many bytes of rows a window function keeps: kKeep, or all once that is no longer enough for a statement with OVER.
class Keeping {
 public:
  // Whether `rows` of `bytes` come close to kKeep for the first time, and all of them are to be kept from now on.
  bool asks_for_all(sqlite3_context* context, std::int64_t rows, std::size_t bytes) {
    if (asked_ || static_cast<std::size_t>(rows) * (bytes + sizeof(double)) < kKeep / 2)
      return false;
    asked_ = true;
    return may_be_window(context);
  }

 private:
  bool asked_ = false;
};

constexpr std::size_t kAll = std::numeric_limits<std::size_t>::max();

// A parameter of the statement keeps its value while the statement runs.
bool is_bound(sqlite3_value* value) {
  static const bool known = sqlite3_libversion_number() >= 3028000;
  return known && sqlite3_value_frombind(value) != 0;
}

void check_same(Constant& constant, sqlite3_value* value, const char* name) {
  if (constant.known() && is_bound(value)) return;
  if (is_number(value)) return constant.check(sqlite3_value_double(value), name);
  const int type = sqlite3_value_type(value);
  constant.check(type, type == SQLITE_TEXT ? text_of(value) : blob_of(value), name);
}

// The value of a row, in place or in `own`.
Cell cell_of(sqlite3_value* value, VectorValue& own) {
  if (is_number(value)) return {{}, sqlite3_value_double(value), true};
  return {own.read(value)};
}

// What attention and its kin share: SQLite's values as the rows of a reader that the first row without NULL makes.
class Reading {
 public:
  // Whether the row counts.
  bool begins(int count, sqlite3_value** values, int label_at) {
    ++row_;
    for (int i = 0; i < count; ++i)
      if (i != label_at && is_null(values[i])) return false;
    return true;
  }
  void add(sqlite3_value** values, sqlite3_value* v, sqlite3_value* scale, int top,
           std::string_view label, std::size_t keep) {
    at(row_, "q", [&] { check_same(query_, values[0], "q"); });
    if (scale != nullptr) at(row_, "scale", [&] { check_same(scale_, scale, "scale"); });
    const std::span<const float> key = at(row_, "k", [&] { return key_.read(values[1]); });
    Cell cell;
    if (v != nullptr) cell = at(row_, "v", [&] { return cell_of(v, value_); });
    const Cell* value = v == nullptr ? nullptr : &cell;
    if (!rows_.begun()) {
      MemoryReader::Options options;
      if (scale != nullptr)
        options.scale = at(row_, "scale", [&] { return number_of(scale, "scale"); });
      options.top = top;
      options.keep = keep;
      VectorValue q;
      rows_.begin(row_, at(row_, "q", [&] { return q.read(values[0]); }), options, value);
    }
    rows_.add(row_, key, value, label);
  }
  std::int64_t row() const { return row_; }
  AttentionRows& rows() { return rows_; }

 private:
  std::int64_t row_ = 0;
  Constant query_, scale_;
  VectorValue key_, value_;
  AttentionRows rows_;
};

// The mean of a state as the answer: a number where values were numbers, NULL where no row was visible.
void give_mean(sqlite3_context* context, const MemoryState& state, bool number) {
  if (state.nothing()) return sqlite3_result_null(context);
  const std::vector<double> mean = mean_of(state);
  if (number) return sqlite3_result_double(context, mean[0]);
  give_vector(context, std::vector<float>(mean.begin(), mean.end()));
}

// attention(q, k, v [, scale]) = Σ softmax(scale·q·k)·v
struct Attention {
  static constexpr const char* name = "attention";
  Reading reading;
  Keeping keeping;

  void step(sqlite3_context* context, int count, sqlite3_value** values) {
    if (!reading.begins(count, values, -1)) return;
    reading.add(values, values[2], count > 3 ? values[3] : nullptr, 0, {}, kKeep);
    const auto value = static_cast<std::size_t>(sqlite3_value_bytes(values[2]));
    if (keeping.asks_for_all(context, reading.row(), value))
      reading.rows().reader().keep_up_to(kAll);
  }
  void leave(int count, sqlite3_value** values) {
    if (!any_null(count, values)) reading.rows().reader().pop();
  }
  void give(sqlite3_context* context) {
    if (const auto state = reading.rows().state())
      give_mean(context, *state, reading.rows().number());
  }
};

// attention_state(q, k, v [, scale]): the sums themselves, to be merged elsewhere
struct AttentionState {
  static constexpr const char* name = "attention_state";
  Reading reading;

  void step(sqlite3_context*, int count, sqlite3_value** values) {
    if (reading.begins(count, values, -1))
      reading.add(values, values[2], count > 3 ? values[3] : nullptr, 0, {}, 0);
  }
  void give(sqlite3_context* context) {
    if (const auto state = reading.rows().state()) give_blob(context, state->bytes());
  }
};

// attention_stats(q, k [, scale]): how many rows share the answer
struct AttentionStats {
  static constexpr const char* name = "attention_stats";
  Reading reading;

  void step(sqlite3_context*, int count, sqlite3_value** values) {
    if (reading.begins(count, values, -1))
      reading.add(values, nullptr, count > 2 ? values[2] : nullptr, 0, {}, 0);
  }
  void give(sqlite3_context* context) {
    if (const auto state = reading.rows().state()) give_text(context, stats_to_json(*state));
  }
};

// attention_top(q, k, label, n [, scale]): which rows answer
struct AttentionTop {
  static constexpr const char* name = "attention_top";
  Reading reading;
  Constant n;

  void step(sqlite3_context*, int count, sqlite3_value** values) {
    if (!reading.begins(count, values, 2)) return;
    const std::int64_t row = reading.row();
    at(row, "n", [&] {
      if (sqlite3_value_type(values[3]) != SQLITE_INTEGER || sqlite3_value_int64(values[3]) < 1 ||
          sqlite3_value_int64(values[3]) > 10000)
        throw std::invalid_argument("expected a whole number from 1 to 10000");
      check_same(n, values[3], "n");
    });
    const std::string label = at(row, "label", [&] { return label_of(values[2]); });
    reading.add(values, nullptr, count > 4 ? values[4] : nullptr, sqlite3_value_int(values[3]),
                label, 0);
  }
  void give(sqlite3_context* context) {
    if (const auto state = reading.rows().state()) give_text(context, top_to_json(*state));
  }
};

// attention_merge(state): states of parts as the state of the whole
struct AttentionMerge {
  static constexpr const char* name = "attention_merge";
  std::int64_t row = 0;
  std::optional<MemoryState> sum;

  void step(sqlite3_context*, int, sqlite3_value** values) {
    ++row;
    if (!is_null(values[0]))
      merge_bytes(row, at(row, "state", [&] { return blob_of(values[0]); }), sum);
  }
  void give(sqlite3_context* context) {
    if (sum) give_blob(context, sum->bytes());
  }
};

double score_of(std::int64_t row, sqlite3_value* value) {
  return at(row, "score", [&] { return number_of(value, "score"); });
}

// softmax_avg(score, value [, temperature]) = Σ softmax(score / temperature)·value
struct SoftmaxAvg {
  static constexpr const char* name = "softmax_avg";
  std::int64_t row = 0;
  VectorValue vector;
  ScoredRows rows{kKeep};
  Keeping keeping;

  void step(sqlite3_context* context, int count, sqlite3_value** values) {
    ++row;
    if (any_null(count, values)) return;
    const double score = score_of(row, values[0]);
    std::optional<double> temperature;
    if (count > 2)
      temperature = at(row, "temperature", [&] { return number_of(values[2], "temperature"); });
    const Cell value = at(row, "value", [&] { return cell_of(values[1], vector); });
    rows.add(row, score, temperature, value);
    if (keeping.asks_for_all(context, row,
                             value.is_number ? sizeof value.number : value.vector.size_bytes()))
      rows.window().keep_up_to(kAll);
  }
  void leave(int count, sqlite3_value** values) {
    if (!any_null(count, values)) rows.window().pop();
  }
  void give(sqlite3_context* context) {
    if (const auto state = rows.state()) give_mean(context, *state, rows.number());
  }
};

// logsumexp(score) = ln Σ e^score
struct LogSumExp {
  static constexpr const char* name = "logsumexp";
  std::int64_t row = 0;
  ScoredRows rows{kKeep};
  Keeping keeping;

  void step(sqlite3_context* context, int, sqlite3_value** values) {
    ++row;
    if (is_null(values[0])) return;
    rows.add(row, score_of(row, values[0]), std::nullopt, {});
    if (keeping.asks_for_all(context, row, 0)) rows.window().keep_up_to(kAll);
  }
  void leave(int count, sqlite3_value** values) {
    if (!any_null(count, values)) rows.window().pop();
  }
  void give(sqlite3_context* context) {
    if (const auto state = rows.state(); state && !state->nothing())
      sqlite3_result_double(context, state->log_sum_exp());
  }
};

// ---- SQLite's four calls, for any of the above

template <class A>
A** slot_of(sqlite3_context* context, bool make) {
  return static_cast<A**>(sqlite3_aggregate_context(context, make ? sizeof(A*) : 0));
}

template <class A>
void step(sqlite3_context* context, int count, sqlite3_value** values) {
  guarded(context, A::name, [&] {
    A** slot = slot_of<A>(context, true);
    if (slot == nullptr) throw std::bad_alloc();
    if (*slot == nullptr) *slot = new A;
    (*slot)->step(context, count, values);
  });
}

template <class A>
void value(sqlite3_context* context) {
  sqlite3_result_null(context);
  guarded(context, A::name, [&] {
    if (A** slot = slot_of<A>(context, false); slot != nullptr && *slot != nullptr)
      (*slot)->give(context);
  });
}

template <class A>
void finish(sqlite3_context* context) {
  value<A>(context);
  if (A** slot = slot_of<A>(context, false); slot != nullptr) {
    delete *slot;
    *slot = nullptr;
  }
}

template <class A>
void inverse(sqlite3_context* context, int count, sqlite3_value** values) {
  guarded(context, A::name, [&] {
    try {
      (*slot_of<A>(context, false))->leave(count, values);
    } catch (const std::length_error&) {
      throw std::runtime_error(
          "this window frame is larger than 4 MiB and the statement does not say OVER itself (a "
          "view "
          "does); use the view's text as a subquery");
    }
  });
}

constexpr int kFlags = SQLITE_UTF8 | SQLITE_DETERMINISTIC | SQLITE_INNOCUOUS;

template <class A>
int add(sqlite3* db, int least, int most) {
  int status = SQLITE_OK;
  for (int count = least; count <= most && status == SQLITE_OK; ++count) {
    if constexpr (requires(A a) { a.leave(0, nullptr); })
      status = sqlite3_create_window_function(db, A::name, count, kFlags, nullptr, step<A>,
                                              finish<A>, value<A>, inverse<A>, nullptr);
    else
      status = sqlite3_create_function_v2(db, A::name, count, kFlags, nullptr, nullptr, step<A>,
                                          finish<A>, nullptr);
  }
  return status;
}

}  // namespace

int register_aggregates(sqlite3* db) {
  for (const int status :
       {add<Attention>(db, 3, 4), add<AttentionState>(db, 3, 4), add<AttentionStats>(db, 2, 3),
        add<AttentionTop>(db, 4, 5), add<AttentionMerge>(db, 1, 1), add<SoftmaxAvg>(db, 2, 3),
        add<LogSumExp>(db, 1, 1)})
    if (status != SQLITE_OK) return status;
  return SQLITE_OK;
}

}  // namespace qkv::sql
