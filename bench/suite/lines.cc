#include "bench/suite/lines.h"

#include <algorithm>
#include <stdexcept>

namespace qkv::bench {
namespace {

constexpr Type kFloats[] = {Type::f32, Type::bf16};

bool is_usual_width(const Line& line) {
  return line.dim_v == line.dim && (line.dim == 64 || line.dim == 128);
}
// A sentence rather than a document: too little work for the fractions of the long lines.
bool is_short(const Line& line) { return line.queries < 512; }

// Both orders of a shape.
void add_both(std::vector<Line>& list, Line line) {
  line.causal = false;
  list.push_back(line);
  line.causal = true;
  list.push_back(line);
}

void add_prefill(std::vector<Line>& list, Type type) {
  for (const Line& shape :
       {Line{1, 12, 12, 128, 128, 64}, Line{1, 12, 12, 512, 512, 64}, Line{8, 12, 12, 512, 512, 64},
        Line{1, 8, 8, 2048, 2048, 64}, Line{1, 8, 8, 2048, 2048, 128}}) {
    Line line = shape;
    line.type = type;
    add_both(list, line);
  }
  list.push_back({1, 32, 8, 2048, 2048, 128, true, type});  // grouped heads
  list.push_back({1, 2, 2, 8192, 8192, 128, true, type});   // long
  for (const std::int64_t dim : {40, 80, 96, 160, 192, 256})
    add_both(list, {1, 8, 8, 2048, 2048, dim, false, type});
  add_both(list, {1, 8, 8, 2048, 2048, 192, false, type, Kind::prefill, 128});
}

Targets prefill_targets(const Line& line) {
  Targets t;
  const bool f32 = line.type == Type::f32;
  if ((!f32 && line.type != Type::bf16) || line.dim < 40 || line.dim > 256) return t;
  if (!is_usual_width(line)) {
    if (!f32 || is_short(line)) return t;
    t.of_peak = 0.8;
    t.of_pytorch = 1.25;
  } else if (!is_short(line)) {
    t.of_peak = f32 ? (line.causal ? 0.87 : 0.9) : line.causal ? 0.82 : 0.85;
    t.of_pytorch = f32 ? (line.causal ? 1.4 : 1.25) : line.causal ? 2.6 : 2.3;
    t.of_others = f32 ? 1 : line.causal ? 2.2 : 1.2;
  } else if (line == Line{1, 12, 12, 128, 128, 64, false, line.type}) {
    t.of_peak = f32 ? 0.8 : 0.7;
    t.of_pytorch = f32 ? 1.5 : 3;
    t.of_others = f32 ? 1 : 1.5;
  }
  return t;
}

Targets decode_targets(const Line& line) {
  Targets t;
  if (line.type == Type::i8) {
    t.gigabytes_per_core = 14;
    t.of_bf16 = 1;
  } else if (line.type != Type::f16 && line.heads == 4 * line.heads_kv) {
    t.of_bandwidth = 0.85;
    t.of_pytorch = line.type == Type::f32 ? 3 : 15;
    t.of_others = 1.5;
  }
  return t;
}

Targets backward_targets(const Line& line) {
  Targets t;
  if (is_short(line)) return t;
  if (line.type == Type::f32) {
    t.of_peak = line.causal ? 0.85 : 0.88;
    t.of_pytorch = 1.3;
  } else if (line.type == Type::bf16) {
    t.of_peak = 0.75;
    t.of_pytorch = 1.7;
  }
  return t;
}

Targets trace_targets(const Line& line) {
  Targets t;
  if (is_short(line) || !is_usual_width(line)) return t;
  const bool wide = line.dim == 128;  // there is more work to hide the trace behind
  if (line.type == Type::f32) {
    t.more_time = wide ? 0.08 : 0.12;
    t.of_pytorch = 4;
  } else if (line.type == Type::bf16) {
    t.more_time = wide ? 0.15 : 0.22;
  }
  return t;
}

Targets call_targets(const Line& line) {
  Targets t;
  if (line.queries * line.keys == 1)
    t.microseconds = 2;
  else
    t.of_one_thread = 0.95;  // no slower, within what two medians of one call differ by
  return t;
}

bool add_parsed(std::vector<Line>& list, const std::string& part) {
  try {
    list.push_back(parse_line(part));
  } catch (const std::invalid_argument&) {
    return false;
  }
  return true;
}

bool add_containing(std::vector<Line>& list, const std::vector<Line>& from,
                    const std::string& part) {
  const std::size_t before = list.size();
  std::copy_if(from.begin(), from.end(), std::back_inserter(list), [&](const Line& line) {
    return line.name().find(part) != std::string::npos ||
           line.full_name().find(part) != std::string::npos;
  });
  return list.size() > before;
}

}  // namespace

std::vector<Line> lines(bool all, bool quick) {
  if (quick)
    return {{1, 12, 12, 128, 128, 64}, {1, 12, 12, 512, 512, 64}, {1, 8, 8, 2048, 2048, 128, true}};
  std::vector<Line> list;
  add_prefill(list, Type::f32);
  if (!all) return list;
  add_prefill(list, Type::bf16);
  for (const Type type : {Type::f32, Type::bf16, Type::i8}) {
    list.push_back({1, 32, 32, 1, 4096, 128, false, type, Kind::decode});
    list.push_back({1, 32, 8, 1, 4096, 128, false, type, Kind::decode});
    list.push_back({1, 32, 8, 1, 32768, 128, false, type, Kind::decode});
    list.push_back({16, 32, 8, 1, 4096, 128, false, type, Kind::decode});
  }
  for (const Type type : kFloats) {
    add_both(list, {1, 8, 8, 2048, 2048, 64, false, type, Kind::backward});
    list.push_back({1, 8, 8, 2048, 2048, 128, true, type, Kind::backward});
    list.push_back({1, 12, 12, 512, 512, 64, false, type, Kind::backward});
  }
  for (const Type type : kFloats)
    for (const std::int64_t dim : {64, 128})
      list.push_back({1, 8, 8, 2048, 2048, dim, false, type, Kind::trace});
  for (const Line& shape :
       {Line{1, 1, 1, 1, 1, 8}, Line{1, 1, 1, 1, 1, 8, false, Type::bf16}, Line{1, 8, 8, 1, 64, 64},
        Line{1, 12, 12, 8, 8, 64}, Line{1, 12, 12, 32, 32, 64}, Line{1, 12, 12, 64, 64, 64}}) {
    list.push_back(shape);
    list.back().kind = Kind::call;
  }
  return list;
}

std::vector<Line> matching(const std::vector<Line>& from, std::string_view filter) {
  if (filter.empty()) return from;
  std::vector<Line> found;
  for (std::string_view rest = filter; !rest.empty();) {
    const std::size_t end = std::min(rest.find(';'), rest.size());
    const std::string part(rest.substr(0, end));
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (part.empty() || add_parsed(found, part) || add_containing(found, from, part) ||
        add_containing(found, lines(true, false), part))
      continue;
    parse_line(part);  // throws, and says how a shape is written
  }
  std::vector<Line> once;
  for (const Line& line : found)
    if (std::find(once.begin(), once.end(), line) == once.end()) once.push_back(line);
  return once;
}

Targets targets(const Line& line) {
  switch (line.kind) {
    case Kind::prefill:
      return prefill_targets(line);
    case Kind::decode:
      return decode_targets(line);
    case Kind::backward:
      return backward_targets(line);
    case Kind::trace:
      return trace_targets(line);
    case Kind::call:
      break;
  }
  return call_targets(line);
}

}  // namespace qkv::bench
