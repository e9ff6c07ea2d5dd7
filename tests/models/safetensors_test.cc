// Good files are read exactly; every damage gives an error that names the file and, where there is one, the tensor.
#include "models/safetensors.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <stdexcept>

#include "models/marian.h"
#include "tests/kernels/random.h"
#include "tests/models/files.h"

namespace qkv::models::testing {
namespace {

std::string open_error(const std::string& bytes) {
  const Folder folder;
  folder.write("m.safetensors", bytes);
  return message_of<std::runtime_error>(
      [&] { Safetensors::open(folder.path() / "m.safetensors"); });
}

std::string header_error(const std::string& header, std::size_t data_bytes = 8) {
  return open_error(safetensors_bytes(header, std::string(data_bytes, '\0')));
}

TEST(Safetensors, ReadsEveryFloatType) {
  const Folder folder;
  const std::string header =
      R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
      R"("b":{"dtype":"F16","shape":[1,3],"data_offsets":[8,14]},)"
      R"("c":{"dtype":"BF16","shape":[],"data_offsets":[14,16]},)"
      R"("none":{"dtype":"F32","shape":[0,7],"data_offsets":[16,16]}} )";  // odd length: unaligned data
  const float a[] = {1.5f, -0.0f};
  const std::uint16_t b[] = {0x3c00, 0x0001, 0xfbff}, c = 0x4049;
  std::string data(16, '\0');
  std::memcpy(data.data(), a, 8);
  std::memcpy(data.data() + 8, b, 6);
  std::memcpy(data.data() + 14, &c, 2);
  folder.write("m.safetensors", safetensors_bytes(header, data));
  const Safetensors file = Safetensors::open(folder.path() / "m.safetensors");
  EXPECT_EQ(file.entries().size(), 4u);
  EXPECT_EQ(file.read("a", std::vector<std::int64_t>{2}), (std::vector<float>{1.5f, -0.0f}));
  EXPECT_EQ(file.read("b", std::vector<std::int64_t>{1, 3}),
            (std::vector<float>{1, 0x1p-24f, -65504}));
  EXPECT_EQ(file.read("c", {}), (std::vector<float>{3.140625f}));
  EXPECT_TRUE(file.read("none", std::vector<std::int64_t>{0, 7}).empty());
  EXPECT_TRUE(file.has("a"));
  EXPECT_FALSE(file.has("__metadata__"));
  const auto wrong_shape = message_of<std::runtime_error>([&] {
    file.read("b", std::vector<std::int64_t>{3, 1});
  });
  EXPECT_NE(wrong_shape.find("m.safetensors: tensor 'b': expected shape [3, 1], got [1, 3]"),
            std::string::npos)
      << wrong_shape;
  const auto missing = message_of<std::runtime_error>([&] { file.read("d", {}); });
  EXPECT_NE(missing.find("tensor 'd': is missing"), std::string::npos) << missing;
}

TEST(Safetensors, DamageIsNamed) {
  const std::string good = R"({"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
  EXPECT_EQ(header_error(good), "");
  const std::pair<std::string, const char*> cases[] = {
      {message_of<std::runtime_error>([] { Safetensors::open("/nowhere/m.safetensors"); }),
       "cannot be opened"},
      {message_of<std::runtime_error>([] { Safetensors::open("/"); }), "is not a file"},
      {open_error(""), "too short"},
      {open_error("1234567"), "too short"},
      {open_error(safetensors_bytes(good.size() + 9, good, std::string(8, '\0'))), "header length"},
      {open_error(safetensors_bytes(~0ull, good, std::string(8, '\0'))), "header length"},
      {open_error(safetensors_bytes(good.size() - 1, good, std::string(8, '\0'))),
       "not valid JSON"},
      {header_error(good, 7), "'t': data_offsets [0,8] lie outside the data (7 bytes)"},
      {header_error(good, 9), "bytes 8 to 9 of the data belong to no tensor"},
      {header_error("[]"), "not a JSON object"},
      {header_error(R"({"t":3})"), "'t': its header entry is not an object"},
      {header_error(R"({"t":{"shape":[2],"data_offsets":[0,8]}})"), "'t': dtype is missing"},
      {header_error(R"({"t":{"dtype":"F31","shape":[2],"data_offsets":[0,8]}})"),
       "'t': unknown dtype 'F31'"},
      {header_error(R"({"t":{"dtype":"F32","shape":2,"data_offsets":[0,8]}})"),
       "'t': shape is missing or not an array"},
      {header_error(R"({"t":{"dtype":"F32","shape":[NaN],"data_offsets":[0,8]}})"),
       "not valid JSON"},
      {header_error(R"({"t":{"dtype":"F32","shape":["NaN"],"data_offsets":[0,8]}})"),
       "'t': shape [\"NaN\"] has an entry"},
      {header_error(R"({"t":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})"),
       "'t': shape [-2] has an entry"},
      {header_error(R"({"t":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}})"),
       "'t': shape [2.0] has an entry"},
      {header_error(
           R"({"t":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,8]}})"),
       "too large"},
      {header_error(R"({"t":{"dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,8]}})"),
       "too large"},
      {header_error(R"({"t":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})"),
       "'t': data_offsets [0,8] hold 8 bytes, but F32 [3] takes 12"},
      {header_error(R"({"t":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})"),
       "'t': data_offsets [8,0] lie outside"},
      {header_error(R"({"t":{"dtype":"F32","shape":[2],"data_offsets":[0]}})"),
       "'t': data_offsets is missing"},
      {header_error(R"({"t":{"dtype":"F32","shape":[2],"data_offsets":[0,18446744073709551615]}})"),
       "lie outside"},
      {header_error(
           R"({"s":{"dtype":"U8","shape":[5],"data_offsets":[0,5]},"t":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})"),
       "'t': overlaps tensor 's'"},
      {header_error(
           R"({"s":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},"t":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})"),
       "'t': bytes 3 to 4 before it belong to no tensor"},
      {header_error(
           R"({"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})"),
       "'t': appears twice"},
  };
  for (const auto& [got, expected] : cases)
    EXPECT_NE(got.find(expected), std::string::npos)
        << "got: " << got << "\nexpected: " << expected;
}

TEST(Safetensors, OtherTypesAreNotWeights) {
  const Folder folder;
  folder.write("m.safetensors",
               safetensors_bytes(R"({"t":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}})",
                                 std::string(8, '\0')));
  const Safetensors file = Safetensors::open(folder.path() / "m.safetensors");
  const auto error =
      message_of<std::runtime_error>([&] { file.read("t", std::vector<std::int64_t>{1}); });
  EXPECT_NE(error.find("'t': expected dtype F32, F16 or BF16, got I64"), std::string::npos)
      << error;
}

// Whatever bytes are wrong: the file is read, or refused with an error. (Under the address sanitizer this would tell.)
TEST(Safetensors, RandomDamageNeverCrashes) {
  const Folder folder;
  write_marian(folder);
  const std::string good = folder.read("model.safetensors");
  std::uint64_t header = 0;
  std::memcpy(&header, good.data(), 8);
  tests::Random random(7);
  int refused = 0;
  for (int round = 0; round < 3000; ++round) {
    std::string bytes = good;
    const int flips = random.between(1, 4);
    for (int i = 0; i < flips; ++i) {
      // mostly in the length and the header, where the structure is
      const int most =
          random.chance(0.9) ? static_cast<int>(header) + 8 : static_cast<int>(bytes.size());
      bytes[static_cast<std::size_t>(random.below(most))] = static_cast<char>(random.below(256));
    }
    if (random.chance(0.2))
      bytes.resize(static_cast<std::size_t>(random.below(static_cast<int>(bytes.size()))));
    folder.write("model.safetensors", bytes);
    try {
      const Marian model = Marian::load(folder.path());
      const std::vector<int> ids = {3, 4, 0};
      std::vector<float> logits;
      model.decode(model.encode(std::span(&ids, 1), 1), ids, 1, &logits);
    } catch (const std::runtime_error& error) {
      ++refused;
      ASSERT_NE(std::string(error.what()).find("model.safetensors"), std::string::npos)
          << error.what();
    }
  }
  EXPECT_GT(refused, 1000);
}

}  // namespace
}  // namespace qkv::models::testing
