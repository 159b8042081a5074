#include "gpu/emulator/shared.h"

namespace nybble::gpu::emulator {
namespace {

[[noreturn]] void refuse(const char* why, std::uint32_t at) {
  throw Error("shared memory: offset " + std::to_string(at) + " " + why);
}

[[noreturn]] void race(const char* what, std::uint32_t at, int first, int second) {
  const auto named = [](int thread) { return thread < 0 ? "a warp" : "thread " + std::to_string(thread); };
  throw Error("shared memory: race: offset " + std::to_string(at) + " " + what + " by " + named(first) + " and " +
              named(second) + " without a barrier between");
}

}  // namespace

void SharedMemory::reset(std::size_t bytes) {
  bytes_.assign(bytes, 0xa5);
  words_.assign((bytes + 3) / 4, Word{});
}

void SharedMemory::check(std::uint32_t at, std::uint32_t bytes) const {
  if (at % bytes != 0) refuse("is not aligned", at);
  if (std::size_t{at} + bytes > bytes_.size()) refuse("is outside the block's memory", at);
}

void SharedMemory::note_write(Word& word, std::uint32_t at, const Access& a) {
  const bool other_wrote = word.writer != kNone && word.writer != a.thread && word.write_barrier == a.barrier;
  if (other_wrote && !(word.writer_warp == a.warp && word.write_warp_barrier < a.warp_barrier)) {
    race("written", at, word.writer, a.thread);
  }
  if (word.reader_warp != kNone && word.read_barrier == a.barrier) {
    if (word.reader_warp != a.warp) race("read and written", at, word.reader, a.thread);
    if (word.read_warp_barrier == a.warp_barrier && word.reader != a.thread) {
      race("read and written", at, word.reader, a.thread);
    }
  }
  word.write_barrier = a.barrier;
  word.write_warp_barrier = a.warp_barrier;
  word.writer = a.thread;
  word.writer_warp = a.warp;
}

void SharedMemory::note_read(Word& word, std::uint32_t at, const Access& a) {
  if (word.copies != 0) refuse("is read while a copy is under way", at);
  if (!word.is_set) refuse("is read and was never written", at);
  const bool other_wrote = word.writer != a.thread && word.write_barrier == a.barrier;
  if (other_wrote && !(word.writer_warp == a.warp && word.write_warp_barrier < a.warp_barrier)) {
    race("written and read", at, word.writer, a.thread);
  }
  if (word.reader_warp == kNone || word.read_barrier != a.barrier) {
    word.read_barrier = a.barrier;
    word.reader_warp = a.warp;
    word.read_warp_barrier = a.warp_barrier;
    word.reader = a.thread;
  } else if (word.reader_warp != a.warp) {
    word.reader_warp = word.reader = kMany;
  } else if (word.read_warp_barrier != a.warp_barrier) {
    word.read_warp_barrier = a.warp_barrier;
    word.reader = a.thread;
  } else if (word.reader != a.thread) {
    word.reader = kMany;
  }
}

const std::uint8_t* SharedMemory::read(std::uint32_t at, std::uint32_t bytes, const Access& access) {
  check(at, bytes);
  for (std::uint32_t i = at / 4; i <= (at + bytes - 1) / 4; ++i) note_read(words_[i], i * 4, access);
  return bytes_.data() + at;
}

std::uint8_t* SharedMemory::write(std::uint32_t at, std::uint32_t bytes, const Access& access) {
  check(at, bytes);
  if (bytes % 4 != 0) refuse("is written by less than a word", at);
  for (std::uint32_t i = at / 4; i < (at + bytes) / 4; ++i) {
    if (words_[i].copies != 0) refuse("is written while a copy is under way", i * 4);
    note_write(words_[i], i * 4, access);
    words_[i].is_set = true;
  }
  return bytes_.data() + at;
}

void SharedMemory::begin_copy(std::uint32_t at, std::uint32_t bytes, const Access& access) {
  check(at, bytes);
  for (std::uint32_t i = at / 4; i < (at + bytes) / 4; ++i) {
    if (words_[i].copies != 0) refuse("is written by two copies at once", i * 4);
    note_write(words_[i], i * 4, access);
    ++words_[i].copies;
  }
}

std::uint8_t* SharedMemory::land_copy(std::uint32_t at, std::uint32_t bytes, const Access& access) {
  for (std::uint32_t i = at / 4; i < (at + bytes) / 4; ++i) {
    --words_[i].copies;
    note_write(words_[i], i * 4, access);
    words_[i].is_set = true;
  }
  return bytes_.data() + at;
}

}  // namespace nybble::gpu::emulator
