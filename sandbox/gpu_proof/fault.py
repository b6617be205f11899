"""A program that commits an Xid 31: a kernel writes to an address that nobody mapped. It harms nobody but itself.

Through the driver's own library alone, so that no CUDA toolkit is needed. It prints `ready`, waits for a line on its
standard input, and prints when it launched the kernel and when it learnt of its error.
"""

import ctypes
import sys
import time

_PTX = b"""
.version 7.0
.target sm_70
.address_size 64
.visible .entry wild()
{
    .reg .b64 %address;
    .reg .b32 %value;
    mov.u64 %address, 0xdead00000000;
    mov.u32 %value, 42;
    st.global.u32 [%address], %value;
    ret;
}
\0"""
ILLEGAL_ADDRESS = 700  # CUDA_ERROR_ILLEGAL_ADDRESS


def main(ordinal: int) -> int:
    cuda = ctypes.CDLL("libcuda.so.1")

    def do(call: str, *args: object) -> None:
        if (code := getattr(cuda, call)(*args)) != 0:
            raise SystemExit(f"{call} answered {code}")

    device, context, module, kernel = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
    do("cuInit", 0)
    do("cuDeviceGet", ctypes.byref(device), ordinal)
    do("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
    do("cuCtxSetCurrent", context)
    do("cuModuleLoadData", ctypes.byref(module), _PTX)
    do("cuModuleGetFunction", ctypes.byref(kernel), module, b"wild")
    print("ready", flush=True)
    sys.stdin.readline()
    launched = time.time()
    do("cuLaunchKernel", kernel, 1, 1, 1, 1, 1, 1, 0, None, None, None)
    code = cuda.cuCtxSynchronize()
    print(f"{launched} {time.time()} {code}", flush=True)
    return 0 if code == ILLEGAL_ADDRESS else 1


if __name__ == "__main__":
    raise SystemExit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 0))
