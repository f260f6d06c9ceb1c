/* Prints where things lie in a CPython interpreter, for the tables in recorder/preload/src/python/layout:
 *
 *     I=$(python3 -c 'import sysconfig; print(sysconfig.get_path("include"))')
 *     cc -w -I$I -I$I/internal recorder/python/layout.c -o layout && ./layout
 *
 * Needs the headers of that interpreter, the internal ones, too. Of another machine's, here armv7, with the headers that Debian's libpython3.11-dev:armhf has:
 *
 *     mmdebstrap --variant=extract --architectures=armhf --include=libpython3.11-dev bookworm root
 *     I=root/usr/include/python3.11
 *     arm-linux-gnueabihf-gcc -w -I$I -I$I/internal -idirafter root/usr/include recorder/python/layout.c -o layout
 *     qemu-arm-static -L /usr/arm-linux-gnueabihf layout
 */
#define Py_BUILD_CORE 1
#include <Python.h>
#include <frameobject.h>
#if PY_VERSION_HEX >= 0x030b0000
#include <internal/pycore_code.h>
#include <internal/pycore_dict.h>
#include <internal/pycore_frame.h>
#endif
#include <internal/pycore_pystate.h>
#if PY_VERSION_HEX >= 0x03090000
#include <internal/pycore_interp.h>
#include <internal/pycore_runtime.h>
#endif
#include <stddef.h>
#include <stdio.h>

#define SHOW(type, field) printf("%-22s %-22s %zu\n", #type, #field, offsetof(type, field))

int main(void) {
    puts(PY_VERSION);
    SHOW(PyThreadState, interp);
#if PY_VERSION_HEX < 0x030b0000
    SHOW(PyThreadState, frame);
    SHOW(PyFrameObject, f_back);
    SHOW(PyFrameObject, f_code);
    SHOW(PyFrameObject, f_lasti);
#else
#if PY_VERSION_HEX < 0x030d0000
    SHOW(PyThreadState, cframe);
    SHOW(_PyCFrame, current_frame);
    SHOW(_PyCFrame, previous);
    SHOW(_PyInterpreterFrame, f_code);
    SHOW(_PyInterpreterFrame, prev_instr);
#else
    SHOW(PyThreadState, current_frame);
    SHOW(_PyInterpreterFrame, f_executable);
    SHOW(_PyInterpreterFrame, instr_ptr);
#endif
#if PY_VERSION_HEX < 0x030c0000
    SHOW(_PyInterpreterFrame, is_entry);
#endif
    SHOW(_PyInterpreterFrame, previous);
    SHOW(_PyInterpreterFrame, owner);
    SHOW(PyCodeObject, co_code_adaptive);
    SHOW(PyCodeObject, _co_firsttraceable);
    SHOW(PyCodeObject, co_qualname);
    SHOW(PyDictKeysObject, dk_log2_size);
    SHOW(PyDictKeysObject, dk_log2_index_bytes);
    SHOW(PyDictKeysObject, dk_kind);
    SHOW(PyDictKeysObject, dk_nentries);
    SHOW(PyDictKeysObject, dk_indices);
#endif
    SHOW(PyCodeObject, co_filename);
    SHOW(PyCodeObject, co_name);
    SHOW(PyCodeObject, co_firstlineno);
#if PY_VERSION_HEX < 0x030a0000
    SHOW(PyCodeObject, co_lnotab);
#else
    SHOW(PyCodeObject, co_linetable);
#endif
    SHOW(PyObject, ob_type);
    SHOW(PyVarObject, ob_size);
    SHOW(PyBytesObject, ob_sval);
    SHOW(PyASCIIObject, length);
    SHOW(PyASCIIObject, state);
    SHOW(PyTypeObject, tp_name);
    SHOW(PyTypeObject, tp_basicsize);
    SHOW(PyTypeObject, tp_flags);
    SHOW(PyTypeObject, tp_base);
    SHOW(PyTypeObject, tp_dict);
    SHOW(PyDictObject, ma_keys);
    SHOW(PyDictObject, ma_values);
    printf("before an object of the collector: %zu; an interpreter's state lies at a multiple of %zu\n", sizeof(PyGC_Head), _Alignof(PyInterpreterState));
    printf("strings: %zu before ASCII characters, %zu before others\n", sizeof(PyASCIIObject), sizeof(PyCompactUnicodeObject));
    return 0;
}
