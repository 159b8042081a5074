// The one function that cuda-bindings looks for in libcuda.so.1. Python says where the others are.
int (*nybble_lookup)(const char*, void**, int, unsigned long long, int*);

int cuGetProcAddress_v2(const char* symbol, void** found, int version, unsigned long long flags, int* status) {
  return nybble_lookup(symbol, found, version, flags, status);
}
