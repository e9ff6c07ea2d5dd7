#include "tests/models/files.h"

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

namespace qkv::models::testing {
namespace {

using nlohmann::json;

// Protocol buffers, as far as a SentencePiece model needs them (sentencepiece_model.proto).
std::string varint(std::uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) bytes += static_cast<char>((value & 0x7f) | 0x80);
  return bytes + static_cast<char>(value);
}
std::string number(int field, std::uint64_t value) {
  return varint(static_cast<std::uint64_t>(field) << 3) + varint(value);
}
std::string message(int field, const std::string& bytes) {
  return varint((static_cast<std::uint64_t>(field) << 3) | 2) + varint(bytes.size()) + bytes;
}
std::string real(int field, float value) {
  std::string bytes(4, '\0');
  std::memcpy(bytes.data(), &value, 4);
  return varint((static_cast<std::uint64_t>(field) << 3) | 5) + bytes;
}

enum Type { kNormal = 1, kUnknown = 2, kControl = 3, kByte = 6 };

std::string piece(const std::string& text, float score, Type type) {
  return message(1, message(1, text) + real(2, score) + number(3, type));
}

std::string byte_piece(int byte) {
  char text[8];
  std::snprintf(text, sizeof text, "<0x%02X>", byte);
  return text;
}

}  // namespace

Folder::Folder() {
  std::string name = (std::filesystem::temp_directory_path() / "qkv-test-XXXXXX").string();
  if (mkdtemp(name.data()) == nullptr) std::abort();
  path_ = name;
}

Folder::~Folder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

void Folder::write(const std::string& name, const std::string& bytes) const {
  std::ofstream(path_ / name, std::ios::binary) << bytes;
}

std::string Folder::read(const std::string& name) const {
  std::ostringstream bytes;
  bytes << std::ifstream(path_ / name, std::ios::binary).rdbuf();
  return bytes.str();
}

std::string safetensors_bytes(std::uint64_t length, const std::string& header,
                              const std::string& data) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) bytes += static_cast<char>(length >> 8 * i);
  return bytes + header + data;
}

std::string safetensors_bytes(const std::string& header, const std::string& data) {
  return safetensors_bytes(header.size(), header, data);
}

std::string sentencepiece_bytes(const std::vector<std::string>& pieces) {
  std::string model = piece("</s>", 0, kControl) + piece("<unk>", 0, kUnknown);
  for (int byte = 0; byte < 256; ++byte) model += piece(byte_piece(byte), 0, kByte);
  for (const std::string& text : pieces)
    model += piece(text, -10 + 0.1f * static_cast<float>(text.size()), kNormal);
  const std::string trainer =
      number(3, 1) + number(35, 1) + number(40, 1) + number(41, 2000) + number(42, 0);
  const std::string normalizer =
      message(1, "identity") + number(3, 1) + number(4, 1) + number(5, 1);
  return model + message(2, trainer) + message(3, normalizer);
}

void RandomCheckpoint::add(const std::string& name, const std::vector<std::int64_t>& shape) {
  std::int64_t count = 1;
  for (const std::int64_t length : shape) count *= length;
  const std::size_t begin = data_.size();
  for (std::int64_t i = 0; i < count; ++i) {
    const float value = random_.uniform(-bound_, bound_);
    data_.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  const json entry = {{"dtype", "F32"}, {"shape", shape}, {"data_offsets", {begin, data_.size()}}};
  entries_ += (entries_.empty() ? "" : ",") + json(name).dump() + ":" + entry.dump();
}

void RandomCheckpoint::affine(const std::string& name, std::int64_t out, std::int64_t in) {
  add(name + ".weight", {out, in});
  add(name + ".bias", {out});
}

void RandomCheckpoint::norm(const std::string& name, std::int64_t width) {
  add(name + ".weight", {width});
  add(name + ".bias", {width});
}

void RandomCheckpoint::write(const Folder& folder) const {
  folder.write("model.safetensors", safetensors_bytes("{" + entries_ + "}", data_));
}

void write_marian(const Folder& folder) {
  const std::vector<std::string> pieces = {"▁",  "▁the", "▁cat", "cat", "s",  "▁sat",
                                           "猫", "坐",   "在",   "。",  "我", "▁我"};
  json vocabulary = {{"</s>", 0}, {"<unk>", 1}};
  for (int byte = 0; byte < 256; ++byte) vocabulary[byte_piece(byte)] = vocabulary.size();
  for (const std::string& text : pieces) vocabulary[text] = vocabulary.size();
  for (const char* token : {">>zh<<", ">>en<<", "<pad>"}) vocabulary[token] = vocabulary.size();
  const auto size = static_cast<std::int64_t>(vocabulary.size());
  folder.write("vocab.json", vocabulary.dump());
  folder.write("source.spm", sentencepiece_bytes(pieces));
  folder.write("target.spm", sentencepiece_bytes(pieces));
  folder.write("config.json", json{{"model_type", "marian"},
                                   {"d_model", 8},
                                   {"encoder_layers", 1},
                                   {"decoder_layers", 1},
                                   {"encoder_attention_heads", 2},
                                   {"decoder_attention_heads", 2},
                                   {"encoder_ffn_dim", 12},
                                   {"decoder_ffn_dim", 12},
                                   {"vocab_size", size},
                                   {"max_position_embeddings", 24},
                                   {"activation_function", "swish"},
                                   {"scale_embedding", true},
                                   {"decoder_start_token_id", size - 1},
                                   {"eos_token_id", 0},
                                   {"pad_token_id", size - 1}}
                                  .dump());
  folder.write("generation_config.json", json{{"num_beams", 2},
                                              {"max_length", 10},
                                              {"bad_words_ids", {{size - 1}}},
                                              {"forced_eos_token_id", 0}}
                                             .dump());

  RandomCheckpoint tensors(0.5f);
  tensors.add("model.shared.weight", {size, 8});
  for (const std::string side : {"encoder", "decoder"}) {
    const std::string layer = "model." + side + ".layers.0.";
    for (const std::string attention : {"self_attn", "encoder_attn"}) {
      if (side == "encoder" && attention == "encoder_attn") continue;
      for (const char* projection : {"q_proj", "k_proj", "v_proj", "out_proj"})
        tensors.affine(layer + attention + "." + projection, 8, 8);
      tensors.norm(layer + attention + "_layer_norm", 8);
    }
    tensors.affine(layer + "fc1", 12, 8);
    tensors.affine(layer + "fc2", 8, 12);
    tensors.norm(layer + "final_layer_norm", 8);
  }
  tensors.write(folder);
}

}  // namespace qkv::models::testing
