"""x"""
def problems(root):
    return []
