// The Python module qkv._core: the engine's calls over arrays. What users type, its defaults and its documentation stand in
// qkv/__init__.py, which hands over every argument by place.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <exception>
#include <new>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "array.h"
#include "openmp.h"
#include "options.h"
#include "qkv/attention.h"
#include "qkv/isa.h"

namespace qkv::python {
namespace {

// Runs the engine without the interpreter's lock; its errors speak of qkv.name.
template <class Call>
void run(const Call& call) {
  try {
    const nb::gil_scoped_release released;
    call();
  } catch (const std::invalid_argument& wrong) {
    const char* text = wrong.what();
    if (std::strncmp(text, "qkv::", 5) != 0) throw;
    throw std::invalid_argument(std::string("qkv.") + (text + 5));
  } catch (const std::length_error&) {  // a vector longer than any memory
    throw std::bad_alloc();
  }
}

constexpr const char* kKeyTypes = "the query's type, or int8 with its scale";

// query, key and (for all but weights) value, with a leading 1 where packed sequences leave the batch out.
struct Inputs {
  Array query, key, value;
  TensorView query_view, key_view, value_view;

  Inputs(const char* function, nb::handle q, nb::handle k, nb::handle v, const Options& options)
      : query(function, "query", q), key(function, "key", k) {
    check(function, query, options.cu_seqlens_q.given(), "[batch, heads_q, tokens, head_dim]",
          "cu_seqlens_q");
    check(function, key, options.cu_seqlens_k.given(), "[batch, heads_kv, tokens, head_dim]",
          "cu_seqlens_k");
    query_view = query.view(function);
    key_view = key.view(function, kKeyTypes);
    if (v.is_valid()) {
      value = Array(function, "value", v);
      check(function, value, options.cu_seqlens_k.given(), "[batch, heads_kv, tokens, value_dim]",
            "cu_seqlens_k");
      value_view = value.view(function, kKeyTypes);
    }
    if (options.block_table.given() && options.block_table.rows() != batch(options))
      fail(function, "block_table has " + std::to_string(options.block_table.rows()) +
                         " rows; expected one for each of the " + std::to_string(batch(options)) +
                         " batch entries");
  }

  std::int64_t batch(const Options& options) const {
    return options.cu_seqlens_q.given()
               ? static_cast<std::int64_t>(options.cu_seqlens_q.values().size()) - 1
               : query.shape()[0];
  }
  // The query's own sizes but the last, which lse has too.
  std::span<const std::int64_t> rows() const {
    return std::span(query.shape())
        .subspan(4 - static_cast<std::size_t>(query.dimensions()))
        .first(static_cast<std::size_t>(query.dimensions()) - 1);
  }

 private:
  static void check(const char* function, const Array& array, bool packed, const char* shape,
                    const char* starts) {
    if (array.dimensions() == 4 || (packed && array.dimensions() == 3)) return;
    std::string what =
        std::string(array.name()) + " has shape " + array.shape_text() + "; expected " + shape;
    if (packed)
      what += " of batch 1, or without the batch";
    else if (array.dimensions() == 3)
      what += std::string(" (three dimensions are for packed sequences, with ") + starts + ")";
    fail(function, what);
  }
};

std::vector<std::int64_t> with_last(std::span<const std::int64_t> sizes, std::int64_t last) {
  std::vector<std::int64_t> shape(sizes.begin(), sizes.end());
  shape.push_back(last);
  return shape;
}

std::span<float> floats(const Array& array) {
  return {static_cast<float*>(array.data()), static_cast<std::size_t>(array.size())};
}

// An argument that the engine takes as one dense run of float32.
std::span<const float> dense_floats(const char* function, const Array& array) {
  if (array.view(function, "float32").dtype != DType::f32)
    fail(function, std::string(array.name()) + " has elements of type " + type_text(array.type()) +
                       "; expected float32");
  if (!array.dense())
    fail(function,
         std::string(array.name()) + " is not contiguous; expected lse as attention() returns it");
  return floats(array);
}

// ---- attention

nb::object trace_arrays(nb::handle like, const Inputs& inputs, const Options& options,
                        Trace& trace) {
  nb::dict fields;
  const std::span<const std::int64_t> rows = inputs.rows();
  const auto put = [&](const char* name, std::span<const std::int64_t> shape, auto& values) {
    fields[name] = array_of(like, shape, std::move(values));
  };
  put("lse", rows, trace.lse);
  put("max", rows, trace.max);
  put("entropy", rows, trace.entropy);
  put("remainder", rows, trace.remainder);
  const std::vector<std::int64_t> tops = with_last(rows, trace.top);
  put("top_keys", tops, trace.top_keys);
  put("top_weights", tops, trace.top_weights);
  if (options.engine.trace.received) {
    std::vector<std::int64_t> columns = {trace.batch, trace.heads, trace.keys};
    if (options.cu_seqlens_k.given()) {
      columns = {trace.heads, inputs.key.shape()[2]};
      if (inputs.key.dimensions() == 4) columns.insert(columns.begin(), 1);
    }
    put("received", columns, trace.received);
    put("visible", columns, trace.visible);
  }
  if (trace.block > 0) {
    const auto blocks = [&](std::int64_t tokens) {
      return (tokens + trace.block - 1) / trace.block;
    };
    const std::array map = {trace.batch, trace.heads, blocks(trace.queries), blocks(trace.keys)};
    put("block_mass", map, trace.block_mass);
    put("block_max", map, trace.block_max);
  }
  return fields;
}

TraceOptions trace_options(nb::handle asked) {
  const auto integer = [&](const char* name) {
    std::int64_t value = 0;
    if (!nb::try_cast(asked.attr(name), value, false) || value != static_cast<int>(value))
      fail("attention", std::string("trace.") + name + " is " + nb::repr(asked.attr(name)).c_str() +
                            "; expected an integer");
    return static_cast<int>(value);
  };
  return {integer("top"), nb::cast<bool>(nb::bool_(asked.attr("received"))), integer("block")};
}

// out, (out, lse), (out, fields of the trace) or (out, lse, fields).
nb::object attention_call(nb::handle query, nb::handle key, nb::handle value,
                          const nb::tuple& given, bool return_lse, nb::handle trace,
                          nb::handle out) {
  constexpr const char* kName = "attention";
  Options options(kName, given);
  const Inputs inputs(kName, query, key, value, options);
  const bool is_traced = !trace.is_none();
  if (is_traced) options.engine.trace = trace_options(trace);

  nb::object result = out.is_none()
                          ? empty_like(query, with_last(inputs.rows(), inputs.value.shape()[3]),
                                       inputs.query_view.dtype)
                          : nb::borrow(out);
  const Array to(kName, "out", result, Access::write);
  if (to.dimensions() != inputs.query.dimensions())
    fail(kName, "out has shape " + to.shape_text() +
                    "; expected as many dimensions as query has, " +
                    std::to_string(inputs.query.dimensions()));
  nb::object lse;
  Trace seen;
  AttentionOutput output{to.view(kName), {}, is_traced ? &seen : nullptr};
  Array lse_array;
  if (return_lse) {
    lse = empty_like(query, inputs.rows(), DType::f32);
    lse_array = Array(kName, "lse", lse, Access::write);
    output.lse = floats(lse_array);
  }
  run([&] {
    attention(inputs.query_view, inputs.key_view, inputs.value_view, options.engine, output);
  });
  if (out.is_none()) result = as_kind_of(query, result);
  if (return_lse) lse = as_kind_of(query, lse);
  if (!is_traced) return return_lse ? nb::object(nb::make_tuple(result, lse)) : result;
  const nb::object fields = trace_arrays(query, inputs, options, seen);
  return return_lse ? nb::make_tuple(result, lse, fields) : nb::make_tuple(result, fields);
}

// ---- backward

// Gradients of (query, key, value, bias, sinks), None where `needed` says no.
nb::tuple backward_call(nb::handle query, nb::handle key, nb::handle value, nb::handle out,
                        nb::handle lse, nb::handle d_out, nb::handle d_lse, const nb::tuple& given,
                        const nb::tuple& needed) {
  constexpr const char* kName = "attention_backward";
  Options options(kName, given);
  const Inputs inputs(kName, query, key, value, options);
  const Array out_array(kName, "out", out), d_out_array(kName, "d_out", d_out);
  const Array lse_array(kName, "lse", lse);
  Array d_lse_array;
  std::span<const float> d_lse_values;
  if (!d_lse.is_none()) {
    d_lse_array = Array(kName, "d_lse", d_lse);
    d_lse_values = dense_floats(kName, d_lse_array);
  }
  AttentionGradients to;
  std::array<nb::object, 5> gradients;
  const auto make = [&](std::size_t i, const Array& of) -> std::optional<Array> {
    gradients[i] = nb::none();
    if (!of.given() || !nb::cast<bool>(needed[i])) return std::nullopt;
    const auto shape = std::span(of.shape()).subspan(4 - static_cast<std::size_t>(of.dimensions()));
    gradients[i] = empty_like(of.object(), shape, of.dtype(kName, "float32, float16 or bfloat16"));
    return Array(kName, "gradient", gradients[i], Access::write);
  };
  if (const auto d = make(0, inputs.query)) to.d_query = d->view(kName);
  if (const auto d = make(1, inputs.key)) to.d_key = d->view(kName);
  if (const auto d = make(2, inputs.value)) to.d_value = d->view(kName);
  if (const auto d = make(3, options.bias)) to.d_bias = d->view(kName);
  if (const auto d = make(4, options.sinks.array())) to.d_sinks = floats(*d);
  run([&] {
    attention_backward(inputs.query_view, inputs.key_view, inputs.value_view, options.engine,
                       {out_array.view(kName), dense_floats(kName, lse_array)},
                       d_out_array.view(kName), to, d_lse_values);
  });
  return nb::make_tuple(gradients[0], gradients[1], gradients[2], gradients[3], gradients[4]);
}

// ---- weights

Range range_of(const char* name, nb::handle slice, std::int64_t count) {
  if (slice.is_none()) return {0, count};
  Py_ssize_t begin = 0, end = 0, step = 0;
  if (PySlice_Check(slice.ptr()) == 0)
    fail("weights", std::string(name) + " is " + nb::repr(slice).c_str() + "; expected a slice");
  if (PySlice_Unpack(slice.ptr(), &begin, &end, &step) != 0) {
    PyErr_Clear();
    step = 0;
  }
  if (step != 1)
    fail("weights", std::string(name) + " is " + nb::repr(slice).c_str() +
                        "; expected a slice of integers with step 1");
  PySlice_AdjustIndices(count, &begin, &end, step);
  return {begin, std::max(begin, end)};
}

std::int64_t most(std::span<const std::int32_t> values) {
  return values.empty()
             ? 0
             : std::max<std::int64_t>(0, *std::max_element(values.begin(), values.end()));
}

nb::object weights_call(nb::handle query, nb::handle key, nb::handle lse, nb::handle queries,
                        nb::handle keys, const nb::tuple& given) {
  constexpr const char* kName = "weights";
  Options options(kName, given);
  const Inputs inputs(kName, query, key, nb::handle(), options);
  const Shape4& q = inputs.query.shape();
  const std::int64_t key_count =
      options.block_table.given() ? most(options.key_lengths.values()) : inputs.key.shape()[2];
  const Range asked = range_of("queries", queries, q[2]);
  const Range of = range_of("keys", keys, key_count);

  std::vector<float> own;
  std::span<const float> of_rows;
  Array lse_array;
  if (!lse.is_none()) {
    lse_array = Array(kName, "lse", lse);
    of_rows = dense_floats(kName, lse_array);
  } else {  // one pass over the keys, whose first numbers stand in for values
    own.resize(static_cast<std::size_t>(q[0] * q[1] * q[2]));
    of_rows = own;
  }
  const std::array shape = {q[0], q[1], asked.end - asked.begin, of.end - of.begin};
  nb::object result = empty_like(query, shape, DType::f32);
  const Array to(kName, "out", result, Access::write);
  run([&] {
    if (lse.is_none()) {
      TensorView value = inputs.key_view;
      value.shape[3] = std::min<std::int64_t>(1, value.shape[3]);
      std::vector<float> ignored(own.size());
      AttentionOptions of_lse = options.engine;
      of_lse.v_scale = of_lse.k_scale;
      attention(inputs.query_view, inputs.key_view, value, of_lse,
                {{ignored.data(), {q[0], q[1], q[2], 1}}, own, nullptr});
    }
    weights(inputs.query_view, inputs.key_view, options.engine, of_rows, asked, of, to.view(kName));
  });
  return as_kind_of(query, result);
}

// ---- merge

nb::tuple merge_call(const nb::list& pairs) {
  constexpr const char* kName = "merge";
  if (pairs.empty()) fail(kName, "there are no parts; expected at least one (out, lse)");
  std::vector<Array> outs, lses;
  std::vector<std::string> names;
  names.reserve(2 * pairs.size());  // arrays point at them
  std::vector<AttentionPart> parts;
  std::vector<nb::object> kept;
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    const nb::object pair = pairs[i];
    if (PySequence_Check(pair.ptr()) == 0 || nb::len(pair) != 2)
      fail(kName,
           "parts[" + std::to_string(i) + "] is a " + kind_text(pair) + "; expected (out, lse)");
    const nb::object out = kept.emplace_back(pair[0]);
    const nb::object lse = kept.emplace_back(pair[1]);
    names.push_back("parts[" + std::to_string(i) + "].out");
    outs.emplace_back(kName, names.back().c_str(), out);
    names.push_back("parts[" + std::to_string(i) + "].lse");
    lses.emplace_back(kName, names.back().c_str(), lse);
    const Array& first = outs.front();
    if (outs[i].dimensions() != first.dimensions() || outs[i].dimensions() < 3)
      fail(kName, names[2 * i] + " has shape " + outs[i].shape_text() +
                      "; expected [batch, heads, tokens, dim] or, packed, [heads, tokens, dim], "
                      "the same for all parts");
    parts.push_back({outs[i].view(kName), dense_floats(kName, lses[i])});
  }
  const Array& first = outs.front();
  const auto sizes =
      std::span(first.shape()).subspan(4 - static_cast<std::size_t>(first.dimensions()));
  nb::object out =
      empty_like(first.object(), sizes, first.dtype(kName, "float32, float16 or bfloat16"));
  nb::object lse = empty_like(first.object(), sizes.first(sizes.size() - 1), DType::f32);
  const Array to(kName, "out", out, Access::write), to_lse(kName, "lse", lse, Access::write);
  run([&] { merge(parts, {to.view(kName), floats(to_lse), nullptr}); });
  return nb::make_tuple(as_kind_of(first.object(), out), as_kind_of(first.object(), lse));
}

}  // namespace
}  // namespace qkv::python

NB_MODULE(_core, m) {
  namespace nb = nanobind;
  using namespace qkv::python;
  m.doc() = "The engine's calls over arrays; qkv/__init__.py is what users call.";
  m.def("attention", &attention_call, nb::arg("query").none(), nb::arg("key").none(),
        nb::arg("value").none(), nb::arg("options"), nb::arg("return_lse"), nb::arg("trace").none(),
        nb::arg("out").none());
  m.def("attention_backward", &backward_call, nb::arg("query").none(), nb::arg("key").none(),
        nb::arg("value").none(), nb::arg("out").none(), nb::arg("lse").none(),
        nb::arg("d_out").none(), nb::arg("d_lse").none(), nb::arg("options"), nb::arg("needed"));
  m.def("weights", &weights_call, nb::arg("query").none(), nb::arg("key").none(),
        nb::arg("lse").none(), nb::arg("queries").none(), nb::arg("keys").none(),
        nb::arg("options"));
  m.def("merge", &merge_call, nb::arg("parts"));
  m.def("isa", [] { return std::string(qkv::isa()); });
  m.def("supported_isas", [] {
    nb::list names;
    for (const std::string_view name : qkv::supported_isas())
      names.append(nb::str(name.data(), name.size()));
    return names;
  });
  m.def("share_openmp", &share_openmp, nb::arg("share"));
  m.attr("__version__") = std::string(qkv::version());
}
