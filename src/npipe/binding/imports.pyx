# cython: language_level=3, binding=True
"""Functions in the place of import's own that leave no trace in the stack.

What an import runs sees its frames: a module that warns of its own import means the frame above, a traceback shows all.
So these are functions of C without a frame, which Cython's own are not.
"""

cdef extern from *:
    """
    /* The state is (asked, original, awaited, tell): asked(...) gives what the call is to return, or None for what
     * original(...) returns; then tell() is called if there is anything in awaited, a dictionary. */
    #if PY_VERSION_HEX >= 0x030D0000
    #define npipe_is_finalizing Py_IsFinalizing
    #else
    #define npipe_is_finalizing _Py_IsFinalizing
    #endif

    static PyObject *npipe_import_call(PyObject *state, PyObject *args, PyObject *keywords)
    {
        PyObject *result, *told;
        if (npipe_is_finalizing())  /* what the functions of Python stand on may be gone */
            return PyObject_Call(PyTuple_GET_ITEM(state, 1), args, keywords);
        result = PyObject_Call(PyTuple_GET_ITEM(state, 0), args, keywords);
        if (result != Py_None)
            return result;
        Py_DECREF(result);
        result = PyObject_Call(PyTuple_GET_ITEM(state, 1), args, keywords);
        if (result == NULL || PyDict_Size(PyTuple_GET_ITEM(state, 2)) == 0)
            return result;
        told = PyObject_CallNoArgs(PyTuple_GET_ITEM(state, 3));
        if (told == NULL) {
            Py_DECREF(result);
            return NULL;
        }
        Py_DECREF(told);
        return result;
    }

    #define NPIPE_IMPORT_METHOD(name, doc) \\
        {name, (PyCFunction)(void (*)(void))npipe_import_call, METH_VARARGS | METH_KEYWORDS, doc}

    static PyMethodDef npipe_import_methods[] = {
        NPIPE_IMPORT_METHOD("__import__", "__import__(name, globals=None, locals=None, fromlist=(), level=0)\\n--\\n\\n"
                                          "Import a module."),
        NPIPE_IMPORT_METHOD("import_module", "import_module(name, package=None)\\n--\\n\\nImport a module."),
        NPIPE_IMPORT_METHOD("find_spec", "find_spec(name, package=None)\\n--\\n\\n"
                                         "Return the spec for the specified module."),
        {NULL, NULL, 0, NULL},
    };

    static PyObject *npipe_import_function(const char *name, PyObject *state, PyObject *module)
    {
        for (PyMethodDef *method = npipe_import_methods; method->ml_name != NULL; method++)
            if (strcmp(method->ml_name, name) == 0)
                return PyCFunction_NewEx(method, state, module);
        PyErr_SetString(PyExc_ValueError, "no such function");
        return NULL;
    }
    """
    object npipe_import_function(const char *name, object state, object module)


def stand_in(str name, asked, original, dict awaited, tell):
    """Return a function in the place of `original`, which is `__import__`, `import_module` or `find_spec`.

    Each call goes to `asked` first, whose caller is then the function's own, and to `original` where that returns None;
    if there is anything in `awaited` afterwards, `tell()` is called.
    """
    return npipe_import_function(name.encode(), (asked, original, awaited, tell), getattr(original, "__module__", None))
