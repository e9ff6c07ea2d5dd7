// attention(), softmax_avg(), logsumexp() and their kin: many rows in, one value out.
//
// SQLite calls the same step for an aggregate and for a window function, and does not say which it is until a row leaves. Rows
// are kept up to kKeep bytes in case one does; beyond, only if a running statement has the word OVER.
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <optional>
#include <stdexcept>

#include "qkv/memory.h"
#include "sql/common/json.h"
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

// An argument that must be the same in every row, such as the query.
class Constant {
 public:
  // Throws std::invalid_argument when it changes.
  void check(sqlite3_value* value, const char* name) {
    if (type_ != 0 && bound(value)) return;
    const int type = sqlite3_value_type(value);
    if (type == SQLITE_INTEGER || type == SQLITE_FLOAT) {
      const double number = sqlite3_value_double(value);
      bytes_now_ = {reinterpret_cast<const char*>(&number), sizeof number};
      same_or_fail(SQLITE_FLOAT, name);
    } else {
      bytes_now_ = type == SQLITE_TEXT ? text_of(value) : blob_of(value);
      same_or_fail(type, name);
    }
  }

 private:
  // A parameter of the statement keeps its value while the statement runs.
  static bool bound(sqlite3_value* value) {
    static const bool known = sqlite3_libversion_number() >= 3028000;
    return known && sqlite3_value_frombind(value) != 0;
  }
  void same_or_fail(int type, const char* name) {
    if (type_ == 0) {
      type_ = type;
      bytes_ = bytes_now_;
    } else if (type != type_ || bytes_now_ != bytes_) {
      throw std::invalid_argument(std::string(name) + " differs from that of the rows before");
    }
  }
  int type_ = 0;
  std::string bytes_;
  std::string_view bytes_now_;
};

template <class F>
auto at(std::int64_t row, const char* column, const F& f) {
  try {
    return f();
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const std::exception& error) {
    fail_at(row, column, error);
  }
}

// What attention and its kin share: a reader that the first row without NULL makes.
class Reading {
 public:
  // Whether the row counts. `scale_at` is where scale stands if it was given.
  bool begins(int count, sqlite3_value** values, int label_at) {
    ++row_;
    for (int i = 0; i < count; ++i)
      if (i != label_at && is_null(values[i])) return false;
    return true;
  }
  void add(sqlite3_value** values, sqlite3_value* v, sqlite3_value* scale, int top,
           std::string_view label, std::size_t keep) {
    at(row_, "q", [&] { query_.check(values[0], "q"); });
    if (scale != nullptr) at(row_, "scale", [&] { scale_.check(scale, "scale"); });
    const std::span<const float> key = at(row_, "k", [&] { return key_.read(values[1]); });
    float one;
    std::span<const float> value;
    if (v != nullptr) {
      const bool number = is_number(v);
      if (reader_ && number != number_)
        at(row_, "v", [&] { throw std::invalid_argument("numbers and vectors in one column"); });
      number_ = number;
      if (number) one = static_cast<float>(sqlite3_value_double(v));
      value =
          number ? std::span<const float>(&one, 1) : at(row_, "v", [&] { return value_.read(v); });
    }
    if (!reader_) {
      MemoryReader::Options options;
      if (scale != nullptr)
        options.scale = at(row_, "scale", [&] { return number_of(scale, "scale"); });
      options.value_dim = static_cast<std::int64_t>(value.size());
      options.top = top;
      options.keep = keep;
      at(row_, "q", [&] {
        VectorValue q;
        reader_.emplace(q.read(values[0]), options);
      });
    }
    reader_->add(row_, key, value, label);
  }
  std::int64_t row() const { return row_; }
  bool numbers() const { return number_; }
  MemoryReader& reader() { return *reader_; }
  // The sums so far; empty where there is nothing to say.
  std::optional<MemoryState> state() {
    if (!reader_) return std::nullopt;
    return reader_->state();
  }

 private:
  std::int64_t row_ = 0;
  Constant query_, scale_;
  VectorValue key_, value_;
  bool number_ = false;
  std::optional<MemoryReader> reader_;
};

// The mean of a state as the answer: a number where values were numbers, NULL where no row was visible.
void give_mean(sqlite3_context* context, const MemoryState& state, bool number) {
  if (state.nothing()) return sqlite3_result_null(context);
  std::vector<double> mean(static_cast<std::size_t>(state.value_dim()));
  state.value(mean);
  for (const double x : mean)
    if (!std::isfinite(x)) throw std::invalid_argument("the sum of values is too large");
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
    if (keeping.asks_for_all(context, reading.row(), value)) reading.reader().keep_up_to(kAll);
  }
  void leave(int count, sqlite3_value** values) {
    if (!any_null(count, values)) reading.reader().pop();
  }
  void give(sqlite3_context* context) {
    if (const auto state = reading.state()) give_mean(context, *state, reading.numbers());
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
    if (const auto state = reading.state()) give_blob(context, state->bytes());
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
    if (const auto state = reading.state()) give_text(context, stats_to_json(*state));
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
      n.check(values[3], "n");
    });
    const std::string label = at(row, "label", [&] { return label_of(values[2]); });
    reading.add(values, nullptr, count > 4 ? values[4] : nullptr, sqlite3_value_int(values[3]),
                label, 0);
  }
  void give(sqlite3_context* context) {
    if (const auto state = reading.state()) give_text(context, top_to_json(*state));
  }
};

// attention_merge(state): states of parts as the state of the whole
struct AttentionMerge {
  static constexpr const char* name = "attention_merge";
  std::int64_t row = 0;
  std::optional<MemoryState> sum;

  void step(sqlite3_context*, int, sqlite3_value** values) {
    ++row;
    if (is_null(values[0])) return;
    at(row, "state", [&] {
      MemoryState state = MemoryState::from_bytes(blob_of(values[0]));
      if (sum)
        sum->merge(state);
      else
        sum = std::move(state);
    });
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
  Constant temperature;
  VectorValue vector;
  bool number = false;
  std::optional<MemoryWindow> window;
  Keeping keeping;

  void step(sqlite3_context* context, int count, sqlite3_value** values) {
    ++row;
    if (any_null(count, values)) return;
    double score = score_of(row, values[0]);
    if (count > 2) {
      at(row, "temperature", [&] {
        const double t = number_of(values[2], "temperature");
        if (!(t > 0) || !std::isfinite(t))
          throw std::invalid_argument("temperature is not above 0 and finite");
        temperature.check(values[2], "temperature");
        score /= t;
      });
    }
    const bool is = is_number(values[1]);
    std::span<const float> v;
    double x = 0;
    at(row, "value", [&] {
      if (window && is != number) throw std::invalid_argument("numbers and vectors in one column");
      if (is) {
        x = sqlite3_value_double(values[1]);
        if (!std::isfinite(x)) throw std::invalid_argument("the number is infinite");
      } else {
        v = vector.read(values[1]);
        if (window && static_cast<std::int64_t>(v.size()) != window->young().value_dim())
          throw std::invalid_argument(std::to_string(v.size()) +
                                      " dimensions, the rows before have " +
                                      std::to_string(window->young().value_dim()));
      }
      if (!window) window.emplace(MemoryState(is ? 1 : static_cast<std::int64_t>(v.size())), kKeep);
    });
    number = is;
    if (!is) require_finite(row, "value", v);
    at(row, "score", [&] {
      if (is)
        window->add(score, x);
      else
        window->add(score, v);
    });
    if (keeping.asks_for_all(context, row, is ? sizeof x : v.size_bytes()))
      window->keep_up_to(kAll);
  }
  void leave(int count, sqlite3_value** values) {
    if (!any_null(count, values)) window->pop();
  }
  void give(sqlite3_context* context) {
    if (window) give_mean(context, window->total(), number);
  }
};

// logsumexp(score) = ln Σ e^score
struct LogSumExp {
  static constexpr const char* name = "logsumexp";
  std::int64_t row = 0;
  MemoryWindow window{MemoryState(), kKeep};
  Keeping keeping;

  void step(sqlite3_context* context, int, sqlite3_value** values) {
    ++row;
    if (is_null(values[0])) return;
    const double score = score_of(row, values[0]);
    at(row, "score", [&] { window.add(score, std::span<const float>()); });
    if (keeping.asks_for_all(context, row, 0)) window.keep_up_to(kAll);
  }
  void leave(int count, sqlite3_value** values) {
    if (!any_null(count, values)) window.pop();
  }
  void give(sqlite3_context* context) {
    if (const MemoryState state = window.total(); !state.nothing())
      sqlite3_result_double(context, state.log_sum_exp());
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
